/* How a kernel of a CPU code object is called.
 *
 * A kernel `foo` is an exported function with C linkage
 *
 *     void foo(const void* kernarg, const hipcommCpuBlock* block);
 *
 * that runs one block of one thread.  The platform calls it once per block of the grid, one after the
 * other, in the thread that launches.  `kernarg` is the argument segment as on AMD GPUs: the arguments in
 * order, each at its natural alignment.
 *
 * A launch with `kernelParams` needs to know the arguments' sizes.  A kernel with several arguments says
 * so through an exported table; a kernel without one has exactly one argument, which is passed in place:
 *
 *     const uint32_t foo_kernargs[] = {count, size_0, alignment_0, size_1, alignment_1, ...};
 *
 * Plain C, no dependencies: kernels include it.
 */
#ifndef HIPCOMM_PLATFORMS_CPU_KERNEL_ABI_H
#define HIPCOMM_PLATFORMS_CPU_KERNEL_ABI_H

#include <stdint.h>

/* Largest dynamic shared memory of a launch, in bytes. */
#define HIPCOMM_CPU_MAX_SHARED_BYTES 65536u

typedef struct hipcommCpuBlock {
    uint32_t block[3];     /* index of this block in the grid: x, y, z */
    uint32_t grid[3];      /* blocks in the grid */
    uint32_t block_dim[3]; /* threads in a block: always 1, 1, 1 */
    uint32_t shared_bytes; /* dynamic shared memory that the launch asked for */
    void* shared;          /* that memory: 64-byte aligned, of this thread alone, contents undefined;
                              null where the launch asked for none */
} hipcommCpuBlock;

typedef void (*hipcommCpuKernel)(const void* kernarg, const hipcommCpuBlock* block);

#endif /* HIPCOMM_PLATFORMS_CPU_KERNEL_ABI_H */
