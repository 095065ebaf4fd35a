/* What a call costs over its launch: a HIP library whose launches do nothing and that is otherwise the real one, which
 * it is linked against; and a loop of calls in C. Built by bench/calls.py. */
#include <hipcomm.h>
#include <stdlib.h>
#include <time.h>

int hipModuleLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned block_x, unsigned block_y,
                          unsigned block_z, unsigned shared, void* stream, void** arguments, void** extra) {
    (void)function, (void)x, (void)y, (void)z, (void)block_x, (void)block_y, (void)block_z, (void)shared;
    (void)stream, (void)arguments, (void)extra;
    return 0;
}

/* Nanoseconds of each of `calls` all-reduces, or -1. */
double nanoseconds_of_a_call(hipcommComm_t comm, float* data, size_t count, int calls) {
    struct timespec began, ended;
    clock_gettime(CLOCK_MONOTONIC, &began);
    for (int i = 0; i < calls; ++i) {
        if (hipcommAllReduce(data, data, count, hipcommFloat32, hipcommSum, comm, NULL) != hipcommSuccess) return -1;
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    return (1e9 * (double)(ended.tv_sec - began.tv_sec) + (double)(ended.tv_nsec - began.tv_nsec)) / calls;
}
