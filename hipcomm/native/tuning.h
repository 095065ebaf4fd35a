/* The tuning table: one row per architecture, and the only place where thresholds live. */
#ifndef HIPCOMM_NATIVE_TUNING_H
#define HIPCOMM_NATIVE_TUNING_H

#include <stdbool.h>
#include <stdint.h>

#include "tables.h"

/* Thresholds are per world class: up to 2, 4, 8 and 16 ranks. */
enum { kWorldClasses = 4 };
int world_class(int world);

typedef struct TuningRow {
    const char* arch; /* gcnArchName without its features, or a prefix of it that ends in '*' */

    uint32_t max_blocks; /* most blocks of a launch; all of them must be resident at once */
    uint32_t threads;    /* per block */

    /* flag-in-data */
    uint32_t part_words;                          /* words of data in a part of a line (kernels/arch/) */
    uint32_t unit_threads;                        /* of a block, if blocks do not run out (kernels/lines/unit.h) */
    uint64_t units[kWorldClasses];                /* bytes: up to here reductions of one shot move units */
    uint32_t tile_shift;                          /* log2 of the lines of a tile, or more */
    uint64_t wide_lines[kWorldClasses];           /* bytes: from here on other lines are wide (line_packs.h) */
    uint32_t wide_tile_shift[kWorldClasses];      /* log2 of the wide lines of a tile, or more */
    uint32_t line_capacity;                       /* lines per parity in the control slab */

    /* Which algorithm a family of operations (operations.def) takes, by what `bytes` counts: bytes[algorithm] are
     * of direct the shortest message in registered memory that takes it, of one_shot, staged and two_shot, asked in
     * this order, the longest, inclusive; what is longer than all is pipelined. 0: never, of direct as well */
    uint64_t thresholds[kFamilies][hipcommNumAlgorithms][kWorldClasses];

    /* pipelined */
    uint32_t pipelined_blocks;
    uint64_t staging_bytes; /* default size of the staging slab */
    bool staging_uncached;  /* docs/amd.md: where cached memory of a peer cannot be kept coherent */
    uint64_t min_chunk;     /* bytes: a block takes no less, if the message and the staging slab have it */
    /* all_reduce, broadcast, reduce, send and recv: */
    uint64_t max_chunk[kWorldClasses]; /* bytes: nor more */
    uint32_t min_steps;     /* cut into this many steps before chunks grow beyond min_chunk */
    /* the others, where every rank has a part of the message and a block takes a chunk of each: */
    uint64_t max_one_step;   /* bytes of all parts together that it takes in a single step; 0: no such rule */
    uint64_t max_part_chunk; /* if they are more: bytes of a part, */
    uint32_t min_part_steps; /* and steps, if they come to min_chunk */
} TuningRow;

/* Whether kernels for wide lines exist. */
bool has_wide_lines(const TuningRow* row);

/* Never NULL: unknown architectures get the row of the most careful GPU. */
const TuningRow* tuning_row(const char* arch);

#endif
