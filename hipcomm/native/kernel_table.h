/* The kernels of hipcomm/abi/kernels.def by number, and which of them run what. */
#ifndef HIPCOMM_NATIVE_KERNEL_TABLE_H
#define HIPCOMM_NATIVE_KERNEL_TABLE_H

#include <stdint.h>

#include "hipcomm_internal.h"

enum KernelArgsKind { kArgs_hipcommKernelArgs, kArgs_hipcommSegmentArgs, kArgs_hipcommCheckArgs, kArgs_hipcommNormArgs, kArgs_hipcommGatherArgs, kArgs_hipcommQkNormArgs,
                      kArgs_hipcommPartialsArgs, kArgs_hipcommRowsArgs };

typedef struct Kernel {
    int first; /* its variants are numbered from here on */
    int (*variant)(const hipcommPlanRequest* request);
    enum KernelArgsKind args;
    const struct Kernel* twin; /* that does the same in wide lines, or NULL */
} Kernel;

/* NULL where the operation has no such algorithm. */
const Kernel* kernel_of(hipcommOperation_t operation, hipcommAlgorithm_t algorithm);

/* Of a norm's kernels that for simple rows (kernels/fused/pieces.h); where one kernel is for all rows, that one. */
int kernel_for_simple_rows(const Kernel* kernel, const hipcommPlanRequest* request);

/* The kernel that compares the ranks' calls. */
int check_kernel_index(void);

/* Those of nodes_local.c; of a request's dtype and reduction. */
int finish_kernel_index(const hipcommPlanRequest* request);
int widen_kernel_index(const hipcommPlanRequest* request);
int partial_kernel_index(const hipcommPlanRequest* request);
int copy_kernel_index(void);
int count_kernel_index(void);

#endif
