/* What the kernels of norms are launched with. */
#ifndef HIPCOMM_ABI_NORM_ARGS_H
#define HIPCOMM_ABI_NORM_ARGS_H

#include "kernel_args.h"

/* Shared memory of a row's sums: floats of one, of which there are two (kernels/numbers/tree.h). A pass has one for each
 * warp; plans have so many threads that they suffice for HIPCOMM_MAX_HIDDEN elements. */
#define HIPCOMM_ROW_PARTIALS 512u

/* Elements of a slice: what one thread takes of a row at a time (kernels/fused/slices.h). A pack on GPUs. */
#define HIPCOMM_SLICE_ELEMENTS(one_thread, element_bytes) ((one_thread) ? 512u : HIPCOMM_PACK_BYTES / (element_bytes))

/* A norm over rows of `hidden` elements; common.send are the rows that it starts from. NULL: there is no residual,
 * weight or bias, or the output is not wanted. Strides are bytes from a row to the next. */
typedef struct hipcommNormArgs {
    hipcommKernelArgs common;
    uint64_t x_stride;
    const void* residual;
    uint64_t residual_stride;
    const void* weight;
    const void* bias;
    void* out;
    uint64_t out_stride;
    void* residual_out;
    uint64_t residual_out_stride;
    uint64_t tokens; /* rows of the call */
    uint64_t first;  /* of this launch: rows first, first + 1, ... first + count - 1; where rows have owners, each
                      * owner's, counted from its own first */
    uint64_t count;
    uint32_t hidden;
    float eps;
    float weight_offset;
    uint32_t weight_is_float32; /* or of the rows' type */
    uint32_t bias_is_float32;
    uint32_t kept_slices;       /* slices of a row that a block's shared memory holds (kernels/fused/epilogue.h) */
} hipcommNormArgs;

#endif
