#include "plan.h"

#include <string.h>

#include "../abi/kernels.def"
#include "../abi/slabs.h"
#include "kernel_table.h"
#include "row_plan.h"
#include "tables.h"

static uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static uint64_t max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }
static uint64_t ceil_div(uint64_t a, uint64_t b) { return (a + b - 1) / b; }

/* Bytes of dynamic shared memory for a tile of packs from each rank, and, for the two-shot, one more. */
static uint32_t tile_bytes(uint32_t packs, int ranks) {
    return HIPCOMM_BLOCK_STATE_BYTES + (uint32_t)ranks * packs * HIPCOMM_PACK_BYTES;
}

/* What a shape function, plan_...(), is told. kernels.def says which one an operation takes with an algorithm. */
typedef struct Case {
    const hipcommPlanRequest* request;
    const TuningRow* row;
    const Operation* operation;
    const Kernel* kernel;
    uint64_t world;
    int class;
    uint32_t max_blocks;
} Case;
typedef void Shape(const Case* c, hipcommPlan* plan);

static void set_kernel(const Case* c, const Kernel* kernel, hipcommPlan* plan) {
    plan->kernel = kernel->first + kernel->variant(c->request);
}

/* Blocks that have something to do, and are allowed. */
static uint32_t some_blocks(uint64_t wanted, uint64_t most) { return (uint32_t)max_u64(1, min_u64(wanted, most)); }

static uint64_t packs_of(uint64_t bytes) { return ceil_div(bytes, HIPCOMM_PACK_BYTES); }

/* ---- flag-in-data ---------------------------------------------------------------------------------------------- */

/* Lines in which one launch can carry a message: each rank's, or the one sender's. */
static uint64_t lines_of_launch(const Case* c, const hipcommPlan* plan) {
    const uint64_t line_bytes = plan->line_packs == 1 ? HIPCOMM_LINE_BYTES : HIPCOMM_WIDE_LINE_BYTES;
    const uint64_t lines = c->row->line_capacity * HIPCOMM_LINE_BYTES / line_bytes;
    const bool one_sender = c->operation->root == kRootSends && c->operation->bytes == kBytesWhole;
    if (one_sender) return lines;
    if (plan->algorithm != hipcommAlgorithmTwoShot) return lines / c->world;
    /* two-shot: contributions and results, a shard from each rank, shards rounded up */
    return lines / 2 / c->world * c->world;
}

/* The threads of all blocks are numbered by (pack, peer). */
static void plan_lines(const Case* c, hipcommPlan* plan) {
    plan->line_packs = 1;
    const uint64_t capacity = lines_of_launch(c, plan);
    plan->bytes_per_launch = capacity * HIPCOMM_PACK_BYTES;
    const uint64_t packs = min_u64(packs_of(c->request->bytes), capacity);
    plan->blocks = some_blocks(ceil_div(packs * c->world, c->row->threads), c->max_blocks);
}

/* A block takes tiles of lines. */
static void plan_tiles(const Case* c, hipcommPlan* plan) {
    const TuningRow* row = c->row;
    const bool two_shot = plan->algorithm == hipcommAlgorithmTwoShot;
    const bool wide = c->kernel->twin && (c->request->bytes >= row->wide_lines[c->class] ||
                                          c->request->bytes > row->units[c->class]);
    if (wide) set_kernel(c, c->kernel->twin, plan);
    plan->line_packs = wide ? HIPCOMM_WIDE_LINE_PACKS : 1;
    const uint64_t capacity = lines_of_launch(c, plan) * plan->line_packs;
    plan->bytes_per_launch = capacity * HIPCOMM_PACK_BYTES;
    const uint64_t lines = ceil_div(min_u64(packs_of(c->request->bytes), capacity), plan->line_packs);
    const uint64_t per_rank = two_shot ? ceil_div(lines, c->world) : lines;
    /* small tiles spread the work over many blocks; they grow when blocks run out, so that one block
     * need not take several tiles in turn */
    uint32_t shift = wide ? row->wide_tile_shift[c->class] : row->tile_shift;
    while (ceil_div(per_rank, 1ull << shift) > c->max_blocks && c->world << (shift + 1) <= row->threads) ++shift;
    plan->tile_shift = shift;
    plan->shared_bytes = tile_bytes(plan->line_packs << shift, c->request->world + (two_shot ? 1 : 0));
    /* a thread per line and rank of the tile; fewer threads start and meet faster */
    plan->threads = (uint32_t)min_u64(row->threads, c->world << shift);
    plan->blocks = some_blocks(ceil_div(per_rank, 1ull << shift), c->max_blocks);
}

/* A thread takes a unit of all ranks' messages (kernels/lines/unit.h), of messages that are not too long for it. */
static void plan_units_or_tiles(const Case* c, hipcommPlan* plan) {
    enum { kWholePacksAndUnits = 48 }; /* so that what the next launch moves is aligned as what this one does */
    const TuningRow* row = c->row;
    if (c->request->bytes > row->units[c->class]) return plan_tiles(c, plan);
    const uint64_t words = HIPCOMM_UNIT_WORDS(row->part_words, dtype_size(c->request->dtype));
    const uint64_t line_bytes = words / row->part_words * (row->part_words + 1) * 4;
    const uint64_t capacity = row->line_capacity * (uint64_t)HIPCOMM_LINE_BYTES / line_bytes / c->world;
    plan->unit_bytes = (uint32_t)words * 4;
    plan->bytes_per_launch = capacity * plan->unit_bytes / kWholePacksAndUnits * kWholePacksAndUnits;
    const uint64_t units = ceil_div(min_u64(c->request->bytes, plan->bytes_per_launch), plan->unit_bytes);
    /* small blocks spread the work; they grow when blocks run out, so that a thread need not take several units */
    const uint32_t most = (uint32_t)min_u64(row->threads, HIPCOMM_MAX_UNIT_THREADS);
    plan->threads = row->unit_threads;
    while (ceil_div(units, plan->threads) > c->max_blocks && 2 * plan->threads <= most) plan->threads *= 2;
    plan->blocks = some_blocks(ceil_div(units, plan->threads), c->max_blocks);
}

static void plan_barrier(const Case* c, hipcommPlan* plan) {
    (void)c;
    plan->blocks = 1;
}

/* ---- through the staging slab ---------------------------------------------------------------------------------- */

/* Bytes of the staging slab that a launch may use. */
static uint64_t staging_of_launch(const Case* c) {
    return (c->request->staging_bytes ? c->request->staging_bytes : c->row->staging_bytes) / 2;
}

/* Whether a chunk of the message is reduced by all ranks, a shard each. */
static bool reduces_in_shards(const Operation* operation) {
    return operation->reduces && operation->bytes == kBytesWhole && operation->root == kRootNone;
}

/* Whether all ranks reduce a segment of the message each, and send it to the root. */
static bool returns_segments(const Operation* operation) {
    return operation->reduces && operation->root == kRootReceives;
}

/* Cells of a chunk each in a slot of a block: areas of a slot, for contributions and results, by cells of an area:
 * one for each rank's part; but a chunk of a whole message lies over all cells (kernels/data/staging.h). */
static uint64_t cells_of_slot(const Case* c) {
    const bool whole = c->operation->bytes == kBytesWhole;
    const uint64_t areas = whole && c->operation->reduces ? 2 : 1;
    return areas * (whole && !returns_segments(c->operation) ? 1 : c->world);
}

static uint64_t pipeline_chunk(uint64_t packs, uint64_t chunks, uint64_t least, uint64_t unit) {
    return ceil_div(max_u64(least, ceil_div(packs, chunks)), unit) * unit;
}

static uint64_t max_chunk_packs(const Case* c) { return c->row->max_chunk[c->class] / HIPCOMM_PACK_BYTES; }

/* As few steps as chunks may be long; few steps need few slots. */
static uint64_t steps_wanted(const Case* c, uint64_t blocks, uint64_t packs) {
    const TuningRow* row = c->row;
    if (c->operation->bytes == kBytesUnknown) return HIPCOMM_RING_SLOTS;
    if (c->operation->bytes == kBytesWhole)
        return max_u64(row->min_steps, ceil_div(packs, blocks * max_chunk_packs(c)));
    if (packs * c->world <= blocks * (row->max_one_step / HIPCOMM_PACK_BYTES)) return 1;
    const uint64_t wanted =
        max_u64(row->min_part_steps, ceil_div(packs, blocks * (row->max_part_chunk / HIPCOMM_PACK_BYTES)));
    /* no more than chunks of the smallest size make: a step without a chunk takes room from the others' */
    return max_u64(1, min_u64(wanted, packs / (blocks * (row->min_chunk / HIPCOMM_PACK_BYTES))));
}

static void plan_pipeline(const Case* c, hipcommPlan* plan) {
    const TuningRow* row = c->row;
    const uint64_t least = row->min_chunk / HIPCOMM_PACK_BYTES;
    uint64_t packs = packs_of(c->request->bytes);
    if (returns_segments(c->operation)) packs = ceil_div(packs, c->world);
    /* no rank knows the longest part: many blocks, with small steps */
    if (c->operation->bytes == kBytesUnknown) packs = row->pipelined_blocks * least;

    const uint64_t blocks = some_blocks(ceil_div(packs, least), min_u64(row->pipelined_blocks, c->max_blocks));
    /* a cell's packs if a block has one slot; and what they come in: a chunk that all ranks reduce is whole shards */
    const uint64_t room = staging_of_launch(c) / (blocks * cells_of_slot(c) * HIPCOMM_PACK_BYTES);
    const uint64_t unit = reduces_in_shards(c->operation) ? c->world : 1;
    uint64_t steps = steps_wanted(c, blocks, packs);
    uint64_t chunk = pipeline_chunk(packs, blocks * steps, least, unit);
    for (; steps < HIPCOMM_RING_SLOTS && chunk > room / steps; chunk = pipeline_chunk(packs, blocks * steps, least, unit))
        ++steps;
    chunk = min_u64(chunk, max_u64(room / min_u64(steps, HIPCOMM_RING_SLOTS) / unit, 1) * unit);
    plan->chunk_packs = (uint32_t)chunk;
    plan->blocks = (uint32_t)min_u64(blocks, ceil_div(packs, chunk)); /* rounding up may leave some without work */
}

/* A chunk for each block, and all of the message in staging memory at once: what does not fit takes several
 * launches. */
static void plan_staged(const Case* c, hipcommPlan* plan) {
    const uint64_t least = c->row->min_chunk / HIPCOMM_PACK_BYTES;
    const uint64_t room = max_u64(1, staging_of_launch(c) / HIPCOMM_PACK_BYTES);
    const uint64_t packs = min_u64(packs_of(c->request->bytes), room);
    const uint64_t blocks = some_blocks(ceil_div(packs, least), min_u64(c->row->pipelined_blocks, c->max_blocks));
    const uint64_t chunk = min_u64(ceil_div(packs, blocks), room / blocks);
    plan->chunk_packs = (uint32_t)chunk;
    plan->blocks = (uint32_t)min_u64(blocks, ceil_div(packs, chunk)); /* rounding up may leave some without work */
    plan->bytes_per_launch = plan->blocks * chunk * HIPCOMM_PACK_BYTES;
}

/* One message to one rank: as lines of its channel's slot, or through the channel's part of the staging
 * slab, which its blocks share. */
static void plan_message(const Case* c, hipcommPlan* plan) {
    const TuningRow* row = c->row;
    const uint64_t packs = packs_of(c->request->bytes);
    if (plan->algorithm == hipcommAlgorithmOneShot) {
        plan->blocks = some_blocks(ceil_div(packs, row->threads), c->max_blocks);
        return;
    }
    const uint64_t ring = HIPCOMM_CHANNEL_RING_BYTES((uint32_t)c->world) / HIPCOMM_PACK_BYTES;
    const uint64_t per_slot = ring / HIPCOMM_CHANNEL_RING; /* packs under way at once, of all blocks */
    const uint64_t least = min_u64(row->min_chunk / HIPCOMM_PACK_BYTES, per_slot);
    const uint64_t blocks =
        some_blocks(min_u64(per_slot / least, ceil_div(packs, least)), min_u64(row->pipelined_blocks, c->max_blocks));
    const uint64_t chunk = max_u64(least, ceil_div(packs, blocks * row->min_steps));
    plan->blocks = (uint32_t)blocks;
    plan->chunk_packs = (uint32_t)min_u64(min_u64(chunk, max_chunk_packs(c)), per_slot / blocks);
}

/* ---- in registered memory -------------------------------------------------------------------------------------- */

/* Blocks work next to each other on the packs of a shard or a part; each has its own two barriers. */
static void plan_direct(const Case* c, hipcommPlan* plan) {
    enum { kRankBuffers = 2 * HIPCOMM_MAX_RANKS * 8 }; /* kernels/direct/rank_buffers.h */
    uint64_t packs = packs_of(c->request->bytes);
    if (c->operation->bytes == kBytesWhole) packs = ceil_div(packs, c->world);
    plan->blocks = some_blocks(ceil_div(packs, c->row->threads), c->max_blocks);
    plan->shared_bytes += kRankBuffers;
}

/* ---- the choice ------------------------------------------------------------------------------------------------ */

/* Whether peers' writes reach what this device has cached, and the other way round (docs/amd.md). */
static bool reaches_registered_memory(const TuningRow* row) { return !row->staging_uncached; }

/* Whether a call can take an algorithm. */
static bool can_take(const hipcommPlanRequest* request, const TuningRow* row, hipcommAlgorithm_t algorithm) {
    if (!kernel_of(request->operation, algorithm)) return false;
    if (is_norm(request->operation)) return can_norm(request, row, algorithm);
    if (algorithm == hipcommAlgorithmDirect) return request->registered && reaches_registered_memory(row);
    /* a message is one launch: what does not fit into a slot cannot go as lines */
    return operations[request->operation].bytes != kBytesMessage || algorithm != hipcommAlgorithmOneShot ||
           request->bytes <= HIPCOMM_CHANNEL_SLOT_LINES((uint32_t)request->world) * (uint64_t)HIPCOMM_PACK_BYTES;
}

static hipcommAlgorithm_t choose(const hipcommPlanRequest* request, const TuningRow* row) {
    static const hipcommAlgorithm_t by_length[] = {hipcommAlgorithmDirect, hipcommAlgorithmOneShot,
                                                   hipcommAlgorithmStaged, hipcommAlgorithmTwoShot};
    const enum Family family = operations[request->operation].family;
    if (family == kFamilyNone) return hipcommAlgorithmOneShot;
    for (size_t i = 0; i < sizeof by_length / sizeof *by_length; ++i) {
        const uint64_t threshold = row->thresholds[family][by_length[i]][world_class(request->world)];
        const bool is_least = by_length[i] == hipcommAlgorithmDirect;
        const bool in_reach = is_least ? threshold && request->bytes >= threshold : request->bytes <= threshold;
        if (in_reach && can_take(request, row, by_length[i])) return by_length[i];
    }
    return hipcommAlgorithmPipelined;
}

/* Exchange: bytes up to which a segment goes as lines. Where no rank knows all lengths each pair decides for itself,
 * within what one launch's lines can carry. */
static uint64_t segment_line_bytes(const Case* c, const hipcommPlan* plan) {
    if (c->operation->bytes != kBytesUnknown) return plan->algorithm == hipcommAlgorithmOneShot ? UINT64_MAX : 0;
    const uint64_t room = c->row->line_capacity / c->world * HIPCOMM_PACK_BYTES;
    return min_u64(c->row->thresholds[c->operation->family][hipcommAlgorithmOneShot][c->class], room);
}

static bool all_ranks_know(enum BytesOf bytes) {
    return bytes != kBytesNone && bytes != kBytesUnknown && bytes != kBytesMessage;
}

static void plan_rows(const Case* c, hipcommPlan* plan) { plan_norm(c->request, c->row, c->max_blocks, plan); }
static void plan_row_sums(const Case* c, hipcommPlan* plan) { plan_qk_norm(c->request, c->row, c->max_blocks, plan); }

static Shape* const shapes[hipcommNumOperations][hipcommNumAlgorithms] = {
#define SHAPE(Operation, Algorithm, kernel, shape, ...) [hipcommOp##Operation][hipcommAlgorithm##Algorithm] = plan_##shape,
    HIPCOMM_RUNS(SHAPE)
};

void make_plan(const hipcommPlanRequest* request, const TuningRow* row, hipcommPlan* plan) {
    const Operation* operation = &operations[request->operation];
    memset(plan, 0, sizeof *plan);
    plan->kernel = -1;
    plan->bytes_per_launch = UINT64_MAX;
    const bool needs_own = has_kernel_of_one(request->operation);
    const bool local = is_norm(request->operation) && !needs_own && (request->world == 1 || !operation->reduces);
    if (request->world == 1 && !local && !needs_own) {
        plan->algorithm = hipcommAlgorithmCopy;
        return;
    }
    if (request->bytes == 0 && all_ranks_know(operation->bytes)) return; /* nothing to move */

    /* a forced algorithm that this call cannot take falls back to the automatic choice */
    plan->algorithm = can_take(request, row, request->algorithm) ? request->algorithm : choose(request, row);
    if (local) plan->algorithm = hipcommAlgorithmLocal;
    const Case c = {
        .request = request,
        .row = row,
        .operation = operation,
        .kernel = kernel_of(request->operation, plan->algorithm),
        .world = (uint64_t)request->world,
        .class = world_class(request->world),
        .max_blocks = request->max_blocks ? (uint32_t)min_u64(request->max_blocks, row->max_blocks) : row->max_blocks,
    };
    set_kernel(&c, c.kernel, plan);
    plan->threads = row->threads;
    plan->shared_bytes = tile_bytes(0, 0);
    plan->line_bytes = segment_line_bytes(&c, plan);
    shapes[request->operation][plan->algorithm](&c, plan);
}

hipcommResult_t hipcommMakePlan(const hipcommPlanRequest* request, hipcommPlan* plan) {
    if (!request || !plan || !request->arch || (int)request->operation < 0 ||
        request->operation >= hipcommNumOperations || !dtype_is_valid((int)request->dtype) ||
        !redop_is_valid((int)request->op) || request->world < 1 || request->world > HIPCOMM_MAX_RANKS ||
        (int)request->algorithm < 0 || request->algorithm >= hipcommNumAlgorithms ||
        !has_its_rows(request) || request->bytes > HIPCOMM_MAX_MESSAGE_BYTES || request->staging_bytes > HIPCOMM_MAX_STAGING_BYTES)
        return hipcommInvalidArgument;
    make_plan(request, tuning_row(request->arch), plan);
    return hipcommSuccess;
}
