#include "row_plan.h"

#include "../abi/norm_args.h"
#include "../abi/slabs.h"
#include "kernel_table.h"
#include "quantised.h"
#include "tables.h"

static uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static uint64_t max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }
static uint64_t ceil_div(uint64_t a, uint64_t b) { return (a + b - 1) / b; }

/* Shared memory that every device has for a block, and what a block's rows need of it for sums. */
enum {
    kSharedBytes = 48 << 10,
    kSumBytes = HIPCOMM_BLOCK_STATE_BYTES + 2 * HIPCOMM_ROW_PARTIALS * 4
};

/* Lanes of the widest warps, so that threads are whole warps everywhere; and threads of a block: the fewest, and the
 * most of one that shares its rows with other blocks, and of one that waits for nobody. */
enum { kLanes = 64, kMostThreads = HIPCOMM_MAX_UNIT_THREADS, kMostLocalThreads = HIPCOMM_MAX_LOCAL_THREADS };

/* A multiple of every target's. */
enum { kLineGroup = 64 };

/* Slices that a thread takes of a row at a time (kernels/fused/pieces.h), at most: as kernels are compiled for. */
enum { kMostLineSlices = 2, kMostLaneSlices = 4 };

/* Local operation, rows from which on many bytes on their way count for more than few steps behind one another. */
enum { kManyRows = 256 };

/* Where a device's memory is behind the caches of one core: what a launch leaves in staging memory at most, so that it is
 * still there when it is read. */
enum { kCachedBytes = 1 << 20 };

/* Blocks of the local operation, which wait for nobody: more than are resident, so that none is idle early. */
enum { kMostLocalBlocks = 1 << 16 };

bool is_norm(hipcommOperation_t operation) {
    return operation >= hipcommOpAddRmsNorm && operation <= hipcommOpAllReduceQkNorm;
}
bool has_kernel_of_one(hipcommOperation_t operation) {
    return operation == hipcommOpAllGatherTokens || operation == hipcommOpAllReduceQkNorm;
}
uint64_t most_hidden(hipcommOperation_t operation) {
    return operation == hipcommOpAllReduceQkNorm ? 2 * HIPCOMM_MAX_HIDDEN : HIPCOMM_MAX_HIDDEN;
}
bool is_layer_norm(hipcommOperation_t operation) {
    return operation == hipcommOpAddLayerNorm || operation == hipcommOpAllReduceLayerNorm ||
           operation == hipcommOpAllReduceLayerNormSharded || operation == hipcommOpReduceScatterLayerNorm;
}
bool is_norm_dtype(hipcommDataType_t dtype) {
    return dtype == hipcommFloat16 || dtype == hipcommBfloat16 || dtype == hipcommFloat32;
}
bool has_own_results(hipcommOperation_t operation) {
    return operation == hipcommOpReduceScatterRmsNorm || operation == hipcommOpReduceScatterLayerNorm;
}
bool has_own_residual(hipcommOperation_t operation) {
    return operation == hipcommOpAllReduceRmsNormSharded || operation == hipcommOpAllReduceLayerNormSharded ||
           has_own_results(operation);
}
bool rows_have_owners(hipcommAlgorithm_t algorithm) {
    return algorithm == hipcommAlgorithmPipelined || algorithm == hipcommAlgorithmTwoShot;
}
bool owners_norm(hipcommOperation_t operation, const TuningRow* row) {
    return has_own_residual(operation) || (row->threads == 1 && sharded_operation(operation) != operation);
}
hipcommOperation_t sharded_operation(hipcommOperation_t operation) {
    return operation == hipcommOpAllReduceRmsNorm     ? hipcommOpAllReduceRmsNormSharded
           : operation == hipcommOpAllReduceLayerNorm ? hipcommOpAllReduceLayerNormSharded
                                                      : operation;
}

bool has_its_rows(const hipcommPlanRequest* request) {
    if (!format_is_valid((int)request->format)) return false;
    if (!is_norm(request->operation)) return request->hidden == 0 && request->format == hipcommFormatNone;
    if (request->operation == hipcommOpAllReduceQkNorm && request->format != hipcommFormatNone) return false;
    return is_norm_dtype(request->dtype) && request->hidden > 0 &&
           request->hidden <= most_hidden(request->operation) && request->bytes % (request->hidden * dtype_size(request->dtype)) == 0;
}

/* A row in slices (kernels/fused/slices.h). */
typedef struct RowShape {
    uint64_t bytes;
    uint64_t packs;
    uint64_t slices;
    uint64_t slice_bytes;
    bool is_layer; /* its sums are two */
} RowShape;

static RowShape shape_of(const hipcommPlanRequest* request, const TuningRow* row) {
    const uint64_t element = dtype_size(request->dtype);
    const uint64_t slice = HIPCOMM_SLICE_ELEMENTS(row->threads == 1, element);
    return (RowShape){
        .bytes = request->hidden * element,
        .packs = ceil_div(request->hidden * element, HIPCOMM_PACK_BYTES),
        .slices = ceil_div(request->hidden, slice),
        .slice_bytes = slice * element,
        .is_layer = is_layer_norm(request->operation),
    };
}

/* Threads that a row has work for, in whole warps. */
static uint64_t threads_of_row(const RowShape* shape, uint32_t lane_slices) {
    return ceil_div(shape->slices, lane_slices * (uint64_t)kLanes) * kLanes;
}

/* What holds a row: how many threads, of how many blocks, and what each of them takes at a time. */
typedef struct RowBlocks {
    uint32_t threads;
    uint32_t blocks;
    uint32_t lane_slices;
    uint32_t kept_slices; /* of what one thread takes several times */
} RowBlocks;

/* Slices that a block keeps in shared memory, if its threads have several pieces of a row each. */
static uint32_t kept_slices(const RowShape* shape, const RowBlocks* with, uint64_t blocks_of_row) {
    const uint64_t at_once = with->lane_slices * (uint64_t)with->threads;
    if (shape->slices <= at_once * blocks_of_row && with->threads > 1) return 0;
    const uint64_t rounds = ceil_div(shape->slices, at_once * blocks_of_row);
    return (uint32_t)min_u64(rounds * at_once, (kSharedBytes - kSumBytes) / shape->slice_bytes);
}

static bool spills(const RowShape* shape, const RowBlocks* with, uint64_t blocks_of_row) {
    const uint64_t at_once = with->lane_slices * (uint64_t)with->threads;
    return with->kept_slices && with->kept_slices < ceil_div(shape->slices, at_once * blocks_of_row) * at_once;
}

/* A block for each row. */
static RowBlocks block_a_row(const RowShape* shape, const TuningRow* row, uint64_t rows, uint64_t most_blocks,
                             uint32_t most_threads, uint32_t lane_slices) {
    RowBlocks with = {.threads = 1, .blocks = (uint32_t)max_u64(1, min_u64(rows, most_blocks)), .lane_slices = lane_slices};
    if (row->threads > 1) with.threads = (uint32_t)min_u64(threads_of_row(shape, lane_slices), most_threads);
    with.kept_slices = kept_slices(shape, &with, 1);
    return with;
}

/* Blocks that share the rows: all rows at once, if they can, with as few packs a thread as that takes. Large blocks:
 * fewer of them begin and end faster (1 row of 7168, 2 ranks on one H200: 4.1 us with 256 threads, 4.6 with 64). */
static RowBlocks shared_blocks(const RowShape* shape, const TuningRow* row, uint64_t rows, uint32_t max_blocks,
                               uint32_t most_lane_slices) {
    if (row->threads == 1) return block_a_row(shape, row, 1, 1, 1, 1);
    RowBlocks with = {.lane_slices = 1};
    while (rows * threads_of_row(shape, with.lane_slices) > (uint64_t)kMostThreads * max_blocks &&
           with.lane_slices < most_lane_slices)
        with.lane_slices *= 2;
    const uint64_t threads = rows * threads_of_row(shape, with.lane_slices);
    with.threads = (uint32_t)min_u64(threads, kMostThreads);
    with.blocks = (uint32_t)min_u64(ceil_div(threads, with.threads), max_blocks);
    with.kept_slices = kept_slices(shape, &with, with.blocks);
    return with;
}

/* The local operation: a block a row. Few rows: all threads that a row has work for, for the time is that of one step
 * behind the other. Many: several packs of each thread on their way. */
static RowBlocks local_blocks(const RowShape* shape, const TuningRow* row, uint64_t rows, bool quantises) {
    uint32_t lane_slices = 1;
    if (row->threads > 1 && !quantises) {
        const uint32_t most = shape->is_layer ? 2 : kMostLaneSlices, wanted = rows >= kManyRows ? 2 : 1;
        while (lane_slices < most && shape->slices >= 2 * lane_slices * kLanes &&
               (lane_slices < wanted || threads_of_row(shape, lane_slices) > kMostLocalThreads))
            lane_slices *= 2;
    }
    return block_a_row(shape, row, rows, row->threads == 1 ? 1 : kMostLocalBlocks, kMostLocalThreads, lane_slices);
}

static RowBlocks blocks_for(const hipcommPlanRequest* request, const TuningRow* row, const RowShape* shape,
                            hipcommAlgorithm_t algorithm, uint64_t rows, uint32_t max_blocks) {
    /* quantising kernels are compiled for one slice: groups are neighbouring lanes' */
    const bool quantises = request->format != hipcommFormatNone, is_shared = !has_own_residual(request->operation) &&
                           request->operation != hipcommOpAllGatherTokens;
    if (algorithm == hipcommAlgorithmLocal) return local_blocks(shape, row, rows, quantises);
    if (algorithm == hipcommAlgorithmOneShot || algorithm == hipcommAlgorithmTwoShot)
        return shared_blocks(shape, row, rows, max_blocks, quantises ? 1 : kMostLineSlices);
    if (algorithm == hipcommAlgorithmPipelined && is_shared)
        return shared_blocks(shape, row, rows, max_blocks, quantises ? 1 : kMostLaneSlices);
    return block_a_row(shape, row, rows, max_blocks, kMostThreads, 1);
}

static uint64_t staging_of_launch(const hipcommPlanRequest* request, const TuningRow* row) {
    return (request->staging_bytes ? request->staging_bytes : row->staging_bytes) / 2;
}

/* Bytes of staging memory that a row with an owner takes for each rank: a contribution, and what is made of it. */
static uint64_t staged_of_row(const hipcommPlanRequest* request, const TuningRow* row, const RowShape* shape) {
    const uint64_t row_bytes = shape->slices * shape->slice_bytes;
    if (request->operation == hipcommOpAllGatherTokens) return max_u64(1, request->gathered_bytes);
    return row_bytes + (owners_norm(request->operation, row) ? request->gathered_bytes : row_bytes);
}

/* Bytes that the rank with the most rows sends over its links, or its peers read from it. */
static uint64_t link_bytes(const hipcommPlanRequest* request, const TuningRow* row, const RowShape* shape,
                           uint64_t tokens, hipcommAlgorithm_t algorithm) {
    const uint64_t peers = (uint64_t)request->world - 1, own = ceil_div(tokens, (uint64_t)request->world);
    switch (algorithm) {
        case hipcommAlgorithmOneShot: return peers * tokens * shape->packs * HIPCOMM_LINE_BYTES;
        case hipcommAlgorithmTwoShot: return (tokens - own + peers * own) * shape->packs * HIPCOMM_LINE_BYTES;
        case hipcommAlgorithmStaged: return peers * tokens * shape->bytes;
        case hipcommAlgorithmPipelined: break;
        default: return 0;
    }
    if (request->operation == hipcommOpAllGatherTokens) return peers * own * request->gathered_bytes;
    return (tokens - own) * shape->bytes +
           peers * own * (owners_norm(request->operation, row) ? request->gathered_bytes : shape->bytes);
}

/* Words that tell other blocks of a row: one for each piece of 32 packs, of quantised rows two. */
static uint64_t words_of_row(const hipcommPlanRequest* request, const RowShape* shape) {
    return ceil_div(shape->slices, 32) * (request->format != hipcommFormatNone ? 2 : 1);
}

/* Rows that one launch can take; where rows have owners, of each. 0: none. */
static uint64_t rows_per_launch(const hipcommPlanRequest* request, const TuningRow* row, const RowShape* shape,
                                const RowBlocks* with, hipcommAlgorithm_t algorithm) {
    const uint64_t world = (uint64_t)request->world;
    const uint64_t staged = staging_of_launch(request, row) / (shape->slices * shape->slice_bytes);
    switch (algorithm) {
        case hipcommAlgorithmOneShot: {
            /* a rank's lines come in whole groups (kernels/launch/line.h) */
            const uint64_t rows = row->line_capacity / world / kLineGroup * kLineGroup / shape->packs;
            /* What shared memory does not hold goes into a row of staging memory; so does, of a row that is not whole
             * packs, what does not fit with one slice a lane. */
            return with->lane_slices > 1 || spills(shape, with, with->blocks) ? min_u64(rows, staged) : rows;
        }
        case hipcommAlgorithmTwoShot: {
            /* contributions, rows that are summed up, and their words */
            const uint64_t of_row = 2 * shape->packs + words_of_row(request, shape), of_rank = row->line_capacity / world;
            return of_rank < 2 * kLineGroup ? 0 : (of_rank - 2 * kLineGroup) / of_row;
        }
        case hipcommAlgorithmStaged: return staged / 2;
        case hipcommAlgorithmPipelined: {
            /* the words of all owners' rows, and what is staged */
            const uint64_t of_row = world * staged_of_row(request, row, shape);
            uint64_t rows = staging_of_launch(request, row) / of_row;
            if (row->threads == 1) rows = min_u64(rows, max_u64(1, kCachedBytes / of_row));
            return min_u64(row->line_capacity / world / words_of_row(request, shape), rows);
        }
        default: return 0;
    }
}

bool can_norm(const hipcommPlanRequest* request, const TuningRow* row, hipcommAlgorithm_t algorithm) {
    if (request->operation == hipcommOpAllReduceQkNorm) return true; /* its lines are of rows, however long */
    const RowShape shape = shape_of(request, row);
    const RowBlocks with = blocks_for(request, row, &shape, algorithm, 1, 1); /* the worst that there may be */
    return rows_per_launch(request, row, &shape, &with, algorithm) > 0;
}

void plan_norm(const hipcommPlanRequest* request, const TuningRow* row, uint32_t max_blocks, hipcommPlan* plan) {
    const uint64_t world = (uint64_t)request->world;
    const bool is_local = plan->algorithm == hipcommAlgorithmLocal, has_owners = rows_have_owners(plan->algorithm);
    const RowShape shape = shape_of(request, row);
    const uint64_t tokens = request->bytes / shape.bytes;
    RowBlocks with = blocks_for(request, row, &shape, plan->algorithm, is_local ? tokens : 1, max_blocks);
    plan->rows_per_launch = tokens;
    if (!is_local) {
        const uint64_t rows = rows_per_launch(request, row, &shape, &with, plan->algorithm);
        if (rows == 0) { /* not even pipelined, which choose() falls back to */
            plan->kernel = -1;
            return;
        }
        plan->rows_per_launch = min_u64(rows, has_owners ? ceil_div(tokens, world) : tokens);
        plan->bytes_per_launch = plan->rows_per_launch * shape.bytes * (has_owners ? world : 1);
        /* where all owners' rows are worked on at once, blocks for all of them */
        const uint64_t at_once = plan->rows_per_launch * (plan->algorithm == hipcommAlgorithmTwoShot ? world : 1);
        with = blocks_for(request, row, &shape, plan->algorithm, at_once, max_blocks);
    }
    plan->link_bytes = link_bytes(request, row, &shape, tokens, plan->algorithm);
    if (has_owners && owners_norm(request->operation, row)) {
        const Kernel* const kernel = kernel_of(sharded_operation(request->operation), plan->algorithm);
        if (kernel) plan->kernel = kernel->first + kernel->variant(request);
    }
    plan->threads = with.threads;
    plan->blocks = with.blocks;
    plan->lane_slices = with.lane_slices;
    plan->kept_slices = with.kept_slices;
    /* kernels/fused/pieces.h; what keeps slices has several pieces of a row */
    if (request->whole_packs && request->format == hipcommFormatNone && with.threads > 1 && with.kept_slices == 0)
        plan->kernel = kernel_for_simple_rows(kernel_of(request->operation, plan->algorithm), request);
    plan->shared_bytes = kSumBytes + (uint32_t)(with.kept_slices * shape.slice_bytes);
}

/* A block a row, and a thread for each slice of it. A row's two sums go in a line of two words: two of them lie in the
 * room of one of a pack. */
void plan_qk_norm(const hipcommPlanRequest* request, const TuningRow* row, uint32_t max_blocks, hipcommPlan* plan) {
    enum { kSumsBytes = HIPCOMM_LINE_BYTES / 2 };
    const uint64_t world = (uint64_t)request->world;
    const RowShape shape = shape_of(request, row); /* of q and k in one */
    const uint64_t tokens = request->bytes / shape.bytes;
    plan->rows_per_launch = min_u64(tokens, row->line_capacity * HIPCOMM_LINE_BYTES / kSumsBytes / world);
    plan->bytes_per_launch = plan->rows_per_launch * shape.bytes;
    plan->blocks = (uint32_t)min_u64(plan->rows_per_launch, max_blocks);
    plan->threads = row->threads == 1 ? 1 : (uint32_t)min_u64(threads_of_row(&shape, 1), kMostThreads);
    plan->shared_bytes = HIPCOMM_QK_SHARED_BYTES;
    plan->link_bytes = (world - 1) * tokens * kSumsBytes;
}
