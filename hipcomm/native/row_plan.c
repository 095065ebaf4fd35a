#include "row_plan.h"

#include "../abi/norm_args.h"
#include "tables.h"

static uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static uint64_t max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }
static uint64_t ceil_div(uint64_t a, uint64_t b) { return (a + b - 1) / b; }

/* Shared memory that every device has for a block, and what a block's rows need of it for sums. */
enum {
    kSharedBytes = 48 << 10,
    kSumBytes = HIPCOMM_BLOCK_STATE_BYTES + 2 * HIPCOMM_ROW_PARTIALS * 4
};

/* Threads of a block that norms its own rows, and of one that holds slices of several ranks. */
enum { kLeastThreads = 64, kMostLocalThreads = 512, kMostThreads = HIPCOMM_MAX_UNIT_THREADS };

/* Blocks of the local operation, which wait for nobody: more than are resident, so that none is idle early. */
enum { kMostLocalBlocks = 1 << 16 };

bool is_norm(hipcommOperation_t operation) {
    return operation >= hipcommOpAddRmsNorm && operation <= hipcommOpAllReduceLayerNorm;
}

bool has_its_rows(const hipcommPlanRequest* request) {
    if (!is_norm(request->operation)) return request->hidden == 0;
    const hipcommDataType_t dtype = request->dtype;
    return (dtype == hipcommFloat16 || dtype == hipcommBfloat16 || dtype == hipcommFloat32) && request->hidden > 0 &&
           request->hidden <= HIPCOMM_MAX_HIDDEN && request->bytes % (request->hidden * dtype_size(dtype)) == 0;
}

/* A row in slices (kernels/fused/slices.h), and the block that works on it. */
typedef struct RowShape {
    uint64_t bytes;
    uint64_t packs;
    uint64_t slices;
    uint64_t staged_bytes; /* whole slices */
    uint32_t kept_slices;
    uint32_t threads;
} RowShape;

static RowShape shape_of(const hipcommPlanRequest* request, const TuningRow* row, uint32_t most_threads) {
    const uint64_t element = dtype_size(request->dtype);
    const uint64_t slice = HIPCOMM_SLICE_ELEMENTS(row->threads == 1, element);
    RowShape shape = {.bytes = request->hidden * element, .threads = row->threads};
    shape.packs = ceil_div(shape.bytes, HIPCOMM_PACK_BYTES);
    shape.slices = ceil_div(request->hidden, slice);
    shape.staged_bytes = shape.slices * slice * element;
    shape.kept_slices = (uint32_t)min_u64(shape.slices, (kSharedBytes - kSumBytes) / (slice * element));
    if (row->threads == 1) return shape;
    shape.threads = kLeastThreads; /* a power of two: threads own subtrees of a sum */
    while (shape.threads < shape.slices && shape.threads < most_threads) shape.threads *= 2;
    return shape;
}

static uint64_t staging_of_launch(const hipcommPlanRequest* request, const TuningRow* row) {
    return (request->staging_bytes ? request->staging_bytes : row->staging_bytes) / 2;
}

/* Rows that one launch can take; where rows have owners, of each. 0: none. */
static uint64_t rows_per_launch(const hipcommPlanRequest* request, const TuningRow* row, const RowShape* shape,
                                hipcommAlgorithm_t algorithm) {
    const uint64_t world = (uint64_t)request->world;
    const uint64_t staged = staging_of_launch(request, row) / shape->staged_bytes;
    const bool spills = shape->kept_slices < shape->slices; /* into as many rows of staging memory */
    switch (algorithm) {
        case hipcommAlgorithmOneShot: {
            const uint64_t rows = row->line_capacity / world / shape->packs;
            return spills ? min_u64(rows, staged) : rows;
        }
        case hipcommAlgorithmStaged: return staged / 2;
        case hipcommAlgorithmPipelined: return staged / (2 * world); /* contributions, and rows that are summed up */
        default: return 0;
    }
}

bool can_norm(const hipcommPlanRequest* request, const TuningRow* row, hipcommAlgorithm_t algorithm) {
    const RowShape shape = shape_of(request, row, kMostThreads);
    return rows_per_launch(request, row, &shape, algorithm) > 0;
}

void plan_norm(const hipcommPlanRequest* request, const TuningRow* row, uint32_t max_blocks, hipcommPlan* plan) {
    const uint64_t world = (uint64_t)request->world;
    const bool is_local = plan->algorithm == hipcommAlgorithmLocal, has_owners = plan->algorithm == hipcommAlgorithmPipelined;
    const RowShape shape = shape_of(request, row, is_local ? kMostLocalThreads : kMostThreads);
    const uint64_t tokens = request->bytes / shape.bytes;
    plan->threads = shape.threads;
    plan->kept_slices = shape.kept_slices;
    plan->shared_bytes = kSumBytes + (uint32_t)(shape.kept_slices * (shape.staged_bytes / shape.slices));
    if (is_local) {
        plan->blocks = row->threads == 1 ? 1 : (uint32_t)min_u64(tokens, kMostLocalBlocks);
        plan->rows_per_launch = tokens;
        return;
    }
    const uint64_t rows = rows_per_launch(request, row, &shape, plan->algorithm);
    if (rows == 0) { /* not even pipelined, which choose() falls back to */
        plan->kernel = -1;
        return;
    }
    plan->rows_per_launch = min_u64(rows, has_owners ? ceil_div(tokens, world) : tokens);
    plan->bytes_per_launch = plan->rows_per_launch * shape.bytes * (has_owners ? world : 1);
    plan->blocks = (uint32_t)max_u64(1, min_u64(plan->rows_per_launch, max_blocks));
}
