/* An MPI program whose ranks meet through MPI: hipcomm needs its MPI_Allgather once, and nothing else of it.
 *
 * mpicc mpi_bootstrap.c $(python -m hipcomm --cflags --libs) -o mpi_bootstrap && mpirun -n 4 ./mpi_bootstrap */
#include <hipcomm.h>
#include <mpi.h>
#include <stdio.h>

static int all_gather(void* context, const void* send, void* recv, size_t bytes) {
    return MPI_Allgather(send, (int)bytes, MPI_BYTE, recv, (int)bytes, MPI_BYTE, *(MPI_Comm*)context) != MPI_SUCCESS;
}

int main(int argc, char** argv) {
    MPI_Comm everybody = MPI_COMM_WORLD;
    hipcommBootstrap bootstrap = HIPCOMM_BOOTSTRAP_INITIALIZER;
    hipcommComm_t comm;
    int rank, world;
    bootstrap.context = &everybody, bootstrap.all_gather = all_gather;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(everybody, &rank);
    MPI_Comm_size(everybody, &world);
    if (hipcommInitBootstrap(&comm, world, rank, &bootstrap, NULL) != hipcommSuccess) {
        fprintf(stderr, "%s\n", hipcommGetLastError(NULL));
        MPI_Abort(everybody, 1);
    }
    float ours = (float)(rank + 1), theirs = ours;
    if (hipcommAllReduce(&ours, &ours, 1, hipcommFloat32, hipcommProd, comm, NULL) != hipcommSuccess ||
        hipcommStreamSynchronize(comm, NULL) != hipcommSuccess) {
        fprintf(stderr, "%s\n", hipcommGetLastError(comm));
        MPI_Abort(everybody, 1);
    }
    MPI_Allreduce(MPI_IN_PLACE, &theirs, 1, MPI_FLOAT, MPI_PROD, everybody);
    printf("rank %d of %d: %g, and %g by MPI\n", rank, world, ours, theirs);
    if (hipcommDestroy(comm) != hipcommSuccess) fprintf(stderr, "%s\n", hipcommGetLastError(NULL));
    return MPI_Finalize() != MPI_SUCCESS;
}
