/* What the kernels of norms are launched with. */
#ifndef HIPCOMM_ABI_NORM_ARGS_H
#define HIPCOMM_ABI_NORM_ARGS_H

#include "formats.def"
#include "kernel_args.h"
#include "scale_layouts.def"

/* Sums of pieces that a row's sum is made of, at most: a row of HIPCOMM_MAX_HIDDEN elements of 4 bytes has 512 pieces of
 * 32 packs. Shared memory has room for two sums' (kernels/fused/row_sums.h). */
#define HIPCOMM_ROW_PARTIALS 512u

/* Elements of a slice: what one thread takes of a row at a time (kernels/fused/slices.h). A pack on GPUs. */
#define HIPCOMM_SLICE_ELEMENTS(one_thread, element_bytes) ((one_thread) ? 512u : HIPCOMM_PACK_BYTES / (element_bytes))

/* What kernels know the formats and the layouts of scales by. */
enum hipcommNormFormat {
#define FORMAT(Name, name, number, ...) hipcommNormFormat##Name = number,
    HIPCOMM_FORMATS(FORMAT)
#undef FORMAT
};
enum hipcommNormScales {
#define LAYOUT(Name, name, number, ...) hipcommNormScales##Name = number,
    HIPCOMM_SCALE_LAYOUTS(LAYOUT)
#undef LAYOUT
};

/* A quantised output. */
typedef struct hipcommQuantisedArgs {
    char* codes;
    uint64_t codes_stride;     /* bytes from a row to the next */
    char* scales;              /* written; a given scale is read */
    uint64_t scales_stride;    /* column-major and packed: scales, or words, from a column to the next */
    uint64_t first;            /* row of the call that is the scales' row 0; */
    uint64_t rows;             /* and how many rows they have */
    const float* global_scale; /* of NVFP4 */
    uint32_t format;           /* enum hipcommNormFormat */
    uint32_t layout;           /* enum hipcommNormScales */
    uint32_t group;            /* elements that share a scale; HIPCOMM_MAX_HIDDEN: the row's */
    uint32_t is_fnuz;          /* fp8: e4m3fnuz, not e4m3fn */
} hipcommQuantisedArgs;

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
    uint32_t is_layer;          /* which norm, in kernels for any rows */
    hipcommQuantisedArgs quantised;
    uint64_t gathered_bytes;    /* rows that have owners: what owners send of a finished row; 0: they keep it */
    uint64_t gathers_residual;  /* whether residual_out is in it */
} hipcommNormArgs;

/* Rows that their owners have, and that everybody gets: in the caller's dtype, quantised, or both. */
typedef struct hipcommGatherArgs {
    hipcommKernelArgs common;
    const char* part; /* this rank's rows, by their number in the call; NULL: there are none */
    uint64_t part_stride;
    char* whole;
    uint64_t whole_stride;
    uint64_t row_bytes;
    hipcommQuantisedArgs quantised_part;
    hipcommQuantisedArgs quantised; /* of format None: there are none */
    uint64_t tokens, first, count;  /* as in hipcommNormArgs */
    uint64_t gathered_bytes;
    uint64_t hidden;
} hipcommGatherArgs;

/* One of q, k and v. Strides are bytes from a row to the next. */
typedef struct hipcommQkRows {
    const void* in;
    uint64_t in_stride;
    void* out; /* NULL: not written */
    uint64_t out_stride;
    const void* weight; /* NULL: ones */
    uint32_t weight_is_float32;
    uint32_t hidden; /* elements of a row; of v 0: there is none */
} hipcommQkRows;

/* RMSNorm of q and k, whose rows lie across the ranks; v is copied. */
typedef struct hipcommQkNormArgs {
    hipcommKernelArgs common;
    hipcommQkRows q, k, v;
    uint64_t first, count; /* of this launch: rows first, first + 1, ... first + count - 1 */
    float eps;
} hipcommQkNormArgs;

/* Rows of a block whose sums are awaited together; and the block's shared memory: sums of the pieces of two rows of q
 * and k, and all ranks' sums of those rows. */
#define HIPCOMM_QK_ROWS 16u
#define HIPCOMM_QK_SHARED_BYTES \
    (HIPCOMM_BLOCK_STATE_BYTES + 2 * 2 * HIPCOMM_ROW_PARTIALS * 4 + 2 * HIPCOMM_QK_ROWS * HIPCOMM_MAX_RANKS * 4)

#endif
