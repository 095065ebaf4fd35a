/* What the kernels of norms are launched with. */
#ifndef HIPCOMM_ABI_NORM_ARGS_H
#define HIPCOMM_ABI_NORM_ARGS_H

#include "kernel_args.h"

/* Sums of pieces that a row's sum is made of, at most: a row of HIPCOMM_MAX_HIDDEN elements of 4 bytes has 512 pieces of
 * 32 packs. Shared memory has room for two sums' (kernels/fused/row_sums.h). */
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
    uint32_t lane_slices;       /* of a piece (kernels/fused/pieces.h) */
    uint32_t simple_rows;       /* rows of x, residual and outputs, weight and bias are whole, aligned packs, and nobody
                                 * takes more than one piece of a row */
} hipcommNormArgs;

#endif
