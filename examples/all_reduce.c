/* cc all_reduce.c $(python -m hipcomm --cflags --libs) -o all_reduce && hipcomm-run -n 4 --platform cpu ./all_reduce */
#include <hipcomm.h>
#include <stdio.h>

int main(void) {
    hipcommComm_t comm = NULL;
    int rank, world;
    float x[2]; /* on GPUs: device memory, of hipMalloc or of hipcommMemAlloc */
    if (hipcommInit(&comm) == hipcommSuccess) {
        hipcommUserRank(comm, &rank);
        hipcommCount(comm, &world);
        x[0] = 1, x[1] = (float)rank;
        if (hipcommAllReduce(x, x, 2, hipcommFloat32, hipcommSum, comm, NULL) == hipcommSuccess &&
            hipcommStreamSynchronize(comm, NULL) == hipcommSuccess) {
            printf("rank %d of %d: %g %g\n", rank, world, x[0], x[1]);
            return hipcommDestroy(comm) != hipcommSuccess;
        }
    }
    fprintf(stderr, "%s\n", hipcommGetLastError(comm));
    return 1;
}
