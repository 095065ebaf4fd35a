#include "tuning.h"

#include <string.h>

#define KiB *1024ull
#define MiB *(1024ull * 1024ull)
/* TuningRow.thresholds */
#define UP_TO(family, algorithm) .thresholds[kFamily##family][hipcommAlgorithm##algorithm]
#define FROM UP_TO
#define NEVER (1ull << 62) /* bytes: no message is that long */

int world_class(int world) { return world <= 2 ? 0 : world <= 4 ? 1 : world <= 8 ? 2 : 3; }

bool has_wide_lines(const TuningRow* row) {
    for (int class = 0; class < kWorldClasses; ++class)
        if (row->wide_lines[class] != NEVER) return true;
    return false;
}

/* Every AMD GPU, until one is measured: derived. docs/amd.md, section 9, says from what. */
#define DERIVED_GPU                                                                              \
    .max_blocks = 64,                                                                            \
    .threads = 512,                                                                              \
    .part_words = 1,                                                                             \
    .unit_threads = 64,                                                                          \
    .units = {NEVER, NEVER, NEVER, NEVER},                                                       \
    .tile_shift = 6,                                                                             \
    .wide_lines = {NEVER, NEVER, NEVER, NEVER}, /* need 128-bit atomics */                       \
    .line_capacity = 132096, /* 2 x 64 Ki for a two-shot of 1 MiB, and room for uneven shards */ \
    UP_TO(AllReduce, OneShot) = {192 KiB, 96 KiB, 64 KiB, 16 KiB},                               \
    UP_TO(AllReduce, TwoShot) = {192 KiB, 192 KiB, 384 KiB, 384 KiB},                            \
    UP_TO(AllGather, OneShot) = {64 KiB, 64 KiB, 32 KiB, 16 KiB},                                \
    UP_TO(Broadcast, OneShot) = {64 KiB, 64 KiB, 32 KiB, 16 KiB},                                \
    UP_TO(ReduceScatter, OneShot) = {64 KiB, 64 KiB, 32 KiB, 16 KiB},                            \
    UP_TO(Reduce, OneShot) = {64 KiB, 32 KiB, 16 KiB, 8 KiB},                                    \
    UP_TO(Exchange, OneShot) = {64 KiB, 64 KiB, 32 KiB, 16 KiB},                                 \
    UP_TO(Send, OneShot) = {64 KiB, 32 KiB, 16 KiB, 8 KiB},                                      \
    UP_TO(Norm, OneShot) = {256 KiB, 256 KiB, 128 KiB, 64 KiB}, /* 4 ranks: 18 rows of 14 KiB */ \
    UP_TO(Norm, TwoShot) = {0, 512 KiB, 384 KiB, 256 KiB},      /* as the time model has it */   \
    FROM(AllReduce, Direct) = {1 MiB, 1 MiB, 1 MiB, 1 MiB},                                      \
    FROM(AllGather, Direct) = {1 MiB, 1 MiB, 1 MiB, 1 MiB},                                      \
    FROM(Broadcast, Direct) = {1 MiB, 1 MiB, 1 MiB, 1 MiB}, /* derived from all_reduce's */      \
    FROM(ReduceScatter, Direct) = {512 KiB, 256 KiB, 128 KiB, 64 KiB}, /* likewise */            \
    FROM(Exchange, Direct) = {1 MiB, 1 MiB, 1 MiB, 1 MiB}, /* derived from all_gather's */       \
    .pipelined_blocks = 64,                                                                      \
    .staging_bytes = 32 MiB,                                                                     \
    .min_chunk = 16 KiB,                                                                         \
    .max_chunk = {1 MiB, 1 MiB, 1 MiB, 1 MiB},                                                   \
    .min_steps = 2,                                                                              \
    .max_part_chunk = 1 MiB,                                                                     \
    .min_part_steps = 2

/* docs/journal.md says where each number comes from. Rows marked "derived" were not measured on
 * the chip they are for. */
static const TuningRow rows[] = {
    {
        .arch = "x86_64", /* measured: the CPU platform, 2 cores */
        .max_blocks = 1,
        .threads = 1,
        .part_words = 1,
        .unit_threads = 1,
        .units = {NEVER, NEVER, NEVER, NEVER},
        .tile_shift = 6,
        .wide_lines = {NEVER, NEVER, NEVER, NEVER}, /* need 128-bit atomics */
        .line_capacity = 16384,
        UP_TO(AllReduce, OneShot) = {0, 0, 0, 0}, /* a line takes longer than a barrier here */
        UP_TO(AllReduce, Staged) = {8 KiB, 8 KiB, 16 KiB, 16 KiB}, /* above, the second hand-over costs less than the bytes */
        UP_TO(AllReduce, TwoShot) = {0, 0, 0, 0},
        UP_TO(AllGather, OneShot) = {64, 64, 64, 64},
        UP_TO(Broadcast, OneShot) = {64, 64, 64, 64},
        UP_TO(ReduceScatter, OneShot) = {64, 64, 64, 64},
        UP_TO(Reduce, OneShot) = {64, 64, 64, 64},
        UP_TO(Exchange, OneShot) = {64, 64, 64, 64},
        UP_TO(Send, OneShot) = {4 KiB, 4 KiB, 4 KiB, 4 KiB}, /* not for speed: what need not wait for its recv */
        UP_TO(Norm, Staged) = {16 KiB, 32 KiB, 64 KiB, 64 KiB}, /* above, owners norm 1/n each; for more than 2 derived */
        FROM(AllReduce, Direct) = {4 KiB, 8 KiB, 8 KiB, 8 KiB}, /* two hand-overs; below, staged has one */
        FROM(AllGather, Direct) = {128, 128, 128, 128},
        FROM(Broadcast, Direct) = {128, 128, 128, 128},
        FROM(ReduceScatter, Direct) = {128, 128, 128, 128},
        FROM(Exchange, Direct) = {128, 128, 128, 128},
        .pipelined_blocks = 1,
        .staging_bytes = 32 MiB,
        .min_chunk = 64 KiB,
        .max_chunk = {512 KiB, 256 KiB, 256 KiB, 256 KiB}, /* ranks that share a core share its caches */
        .min_steps = 1,
        .max_part_chunk = 512 KiB,
        .min_part_steps = 1,
    },
    {
        .arch = "sm_*", /* measured on sm_90 with NVLink */
        .max_blocks = 128,
        .threads = 512,
        .part_words = 3,
        .unit_threads = 64,
        .units = {384 KiB, 128 KiB, 64 KiB, 32 KiB}, /* a unit for each thread; from 8 ranks on derived */
        .tile_shift = 6,
        .wide_lines = {192 KiB, 48 KiB, 24 KiB, 24 KiB},
        .wide_tile_shift = {6, 5, 5, 5},
        .line_capacity = 176128, /* wide lines of a two-shot of 2 MiB, and room for uneven shards */
        UP_TO(AllReduce, OneShot) = {1 MiB, 128 KiB, 32 KiB, 16 KiB},
        UP_TO(AllReduce, Staged) = {0, 0, 0, 0}, /* never: it reads over links, which is slower than to write */
        UP_TO(AllReduce, TwoShot) = {2 MiB, 2 MiB, 1 MiB, 512 KiB},
        UP_TO(AllGather, OneShot) = {1 MiB, 512 KiB, 256 KiB, 128 KiB},
        UP_TO(Broadcast, OneShot) = {128 KiB, 128 KiB, 64 KiB, 32 KiB},
        UP_TO(ReduceScatter, OneShot) = {2 MiB, 512 KiB, 256 KiB, 128 KiB},
        UP_TO(Reduce, OneShot) = {128 KiB, 64 KiB, 32 KiB, 16 KiB},         /* derived from all_reduce's */
        UP_TO(Exchange, OneShot) = {128 KiB, 128 KiB, 64 KiB, 32 KiB},      /* derived from all_gather's */
        UP_TO(Send, OneShot) = {64 KiB, 32 KiB, 16 KiB, 8 KiB},             /* what fits into a slot */
        /* between the time models' figures and those of ranks that share a GPU: docs/performance.md */
        UP_TO(Norm, OneShot) = {1 MiB, 256 KiB, 96 KiB, 48 KiB},
        UP_TO(Norm, TwoShot) = {0, 896 KiB, 896 KiB, 512 KiB},
        /* reading over NVLink is slower than writing into staging memory, unless there is but one peer */
        FROM(AllReduce, Direct) = {2 MiB, NEVER, NEVER, NEVER},
        FROM(AllGather, Direct) = {2 MiB, 2 MiB, 2 MiB, 2 MiB},
        FROM(Broadcast, Direct) = {1 MiB, 1 MiB, 1 MiB, 1 MiB}, /* derived from all_gather's */
        FROM(ReduceScatter, Direct) = {NEVER, NEVER, NEVER, NEVER},
        FROM(Exchange, Direct) = {512 KiB, 512 KiB, 512 KiB, 512 KiB},
        .pipelined_blocks = 128,
        .staging_bytes = 48 MiB,
        .min_chunk = 8 KiB,
        .max_chunk = {48 KiB, 48 KiB, 48 KiB, 48 KiB},
        .min_steps = 1,
        .max_one_step = 64 KiB,
        .max_part_chunk = 16 KiB,
        .min_part_steps = 4,
    },
    /* docs/amd.md says why their staging is uncached */
    {.arch = "gfx90a", .staging_uncached = true, DERIVED_GPU},
    {.arch = "gfx11*", .staging_uncached = true, DERIVED_GPU},
    {.arch = "gfx*", DERIVED_GPU},
};
enum { kRows = sizeof rows / sizeof rows[0] };

static int matches(const char* pattern, const char* arch, size_t arch_length) {
    const size_t length = strlen(pattern);
    if (pattern[length - 1] == '*') return arch_length >= length - 1 && !strncmp(pattern, arch, length - 1);
    return arch_length == length && !strncmp(pattern, arch, length);
}

const TuningRow* tuning_row(const char* arch) {
    const size_t length = strcspn(arch, ":"); /* "gfx942:sramecc+:xnack-" */
    for (int i = 0; i < kRows; ++i)
        if (matches(rows[i].arch, arch, length)) return &rows[i];
    return &rows[kRows - 1];
}
