/* What kernels are launched with. Every struct is passed to a kernel by value, so it is the kernel's whole argument
 * segment.
 */
#ifndef HIPCOMM_ABI_KERNEL_ARGS_H
#define HIPCOMM_ABI_KERNEL_ARGS_H

#include <stdint.h>

#include "limits.h"
#include "reductions.def"
#include "status.h"

/* What a block knows of its launch, at the beginning of its shared memory (kernels/launch/launch.h). */
#define HIPCOMM_BLOCK_STATE_BYTES 64

/* What an 8-bit float format does with the codes that IEEE 754 would use for infinity and NaN. */
enum hipcommFloat8Specials {
    HIPCOMM_FLOAT8_IEEE = 0,          /* infinities and NaNs */
    HIPCOMM_FLOAT8_FINITE = 1,        /* "fn": no infinity; all ones is NaN */
    HIPCOMM_FLOAT8_UNSIGNED_ZERO = 2, /* "fnuz": no infinity, no -0, whose code is the one NaN */
    HIPCOMM_FLOAT8_EXPONENT_ONLY = 3  /* "e8m0fnu": powers of two; all ones is NaN */
};

/* What the kernel for 8-bit floats is told to do; an average is a sum. */
enum hipcommReduction {
#define REDUCTION(Name, name, number, ...) hipcommReduction##Name = number,
    HIPCOMM_KERNEL_REDUCTIONS(REDUCTION)
#undef REDUCTION
};

/* One kernel per algorithm reduces all 8-bit floats: this tells it the format and the reduction. */
typedef struct hipcommFloat8 {
    uint8_t mantissa_bits;
    uint8_t bias;
    uint8_t specials;  /* enum hipcommFloat8Specials */
    uint8_t reduction; /* enum hipcommReduction */
} hipcommFloat8;

/* One struct for every collective kernel: fields a kernel does not need are zero. */
typedef struct hipcommKernelArgs {
    char* own_control; /* control[rank], without the look-up: what every launch reads first */
    const void* send;
    void* recv;
    uint64_t bytes;        /* bytes of the message that this launch moves (per rank for all_gather); of kernels that
                            * take segments: what the plan was made for (reduce_scatter: one rank's part) */
    uint64_t recv_stride;  /* all_gather: bytes between the parts of two ranks in recv */

    uint32_t rank;
    uint32_t world;
    uint32_t blocks;  /* of this launch; all ranks launch the same number */
    uint32_t threads; /* per block */

    uint32_t epoch_slots;   /* epoch words in use: the most blocks any launch may have */
    uint32_t tile_shift;    /* flag-in-data kernels with tiles: log2 of the lines of one tile (one block's step) */
    uint32_t chunk_packs;   /* pipelined kernels: packs of one block's step, over all ranks' shards */
    uint32_t root;        /* send and recv: the other rank */
    uint32_t average;     /* reductions: divide the sum by the world size */
    hipcommFloat8 float8; /* reductions of 8-bit floats */

    uint32_t operation;  /* for the fault record */
    uint32_t algorithm;
    uint32_t call_hash;  /* of flags (slabs.h); of messages, the dtype */
    uint32_t unused;     /* so that nothing is left to the compiler */
    uint64_t timeout_ticks;
    uint64_t line_capacity; /* lines per parity in the control slab */
    uint64_t staging_bytes; /* bytes per parity in the staging slab; behind both, the channels' cells */

    hipcommStatus* status;
    char* control[HIPCOMM_MAX_RANKS]; /* every rank's control slab, as mapped here */
    char* staging[HIPCOMM_MAX_RANKS];

    uint64_t send_place; /* direct kernels: where send and recv are, for the peers; or HIPCOMM_NO_PLACE */
    uint64_t recv_place;
} hipcommKernelArgs;

/* What this rank sends to, and receives from, one rank (itself included): bytes from the beginning of
 * send and recv. */
typedef struct hipcommSegment {
    uint64_t send_offset;
    uint64_t send_bytes;
    uint64_t recv_offset;
    uint64_t recv_bytes;
} hipcommSegment;

/* hipcommKernelArgs.root of a reduce_scatter, whose kernels it shares with reduce. */
#define HIPCOMM_NO_ROOT 0xffffffffu

/* For kernels that treat every peer differently. Segments on one side (recv for exchange, send for
 * reductions) may lie in rows: row_bytes bytes each, row_stride bytes apart. */
typedef struct hipcommSegmentArgs {
    hipcommKernelArgs common;
    uint64_t row_bytes;
    uint64_t row_stride;
    uint64_t first_pack; /* flag-in-data: this launch moves packs first_pack, ... */
    uint64_t most_packs; /* ... this many of each segment, or what is left of it */
    uint64_t line_bytes; /* exchange: segments of up to this many bytes go as lines, longer ones staged */
    hipcommSegment segments[HIPCOMM_MAX_RANKS];
} hipcommSegmentArgs;

/* The nodes' partial results of the elements that are in recv then; of nodes other than `node`, at send, in node order.
 * common.bytes are those of the elements, and common.world is what an average is divided by. */
typedef struct hipcommPartialsArgs {
    hipcommKernelArgs common;
    const char* own; /* that of this rank's node */
    uint64_t stride; /* bytes from one node's at send to the next one's */
    uint32_t nodes;
    uint32_t node;
} hipcommPartialsArgs;

/* Rows of row_bytes bytes each, copied from send to recv; common.bytes in all. */
typedef struct hipcommRowsArgs {
    hipcommKernelArgs common;
    uint64_t row_bytes;
    uint64_t send_stride; /* bytes from one row to the next */
    uint64_t recv_stride;
} hipcommRowsArgs;

/* For the kernel that checks calls: this rank's side, and the bytes of each pair where they differ. */
typedef struct hipcommCheckArgs {
    hipcommKernelArgs common;
    uint64_t call; /* as in hipcommCheckedCall */
    uint64_t count;
    uint64_t sent[HIPCOMM_MAX_RANKS];
    uint64_t received[HIPCOMM_MAX_RANKS];
} hipcommCheckArgs;

#endif
