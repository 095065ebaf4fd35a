#include "plan.h"

#include <string.h>

#include "../../kernels/abi.h"
#include "kernel_table.h"
#include "tables.h"

static uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static uint64_t max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }
static uint64_t ceil_div(uint64_t a, uint64_t b) { return (a + b - 1) / b; }

/* Bytes of dynamic shared memory for a tile of packs from each rank, and, for the two-shot, one more. */
static uint32_t tile_bytes(uint32_t packs, int ranks) {
    return HIPCOMM_BLOCK_STATE_BYTES + (uint32_t)ranks * packs * HIPCOMM_PACK_BYTES;
}

/* Flag-in-data: a block takes tiles of lines. The others' threads stand side by side for (pack, peer). */
static bool works_in_tiles(hipcommOperation_t operation) {
    return operation == hipcommOpAllReduce || operation == hipcommOpAllGather ||
           operation == hipcommOpReduceScatter || operation == hipcommOpReduce;
}

/* Flag-in-data: whether a thread takes a unit of all ranks' messages (kernels/lines/unit.h). */
static bool works_in_units(const hipcommPlanRequest* request, const TuningRow* row, hipcommAlgorithm_t algorithm) {
    return algorithm == hipcommAlgorithmOneShot &&
           (request->operation == hipcommOpAllReduce || request->operation == hipcommOpReduceScatter) &&
           request->bytes <= row->units[world_class(request->world)];
}

/* Packs that one flag-in-data launch can carry, by the lines that it needs. */
static uint64_t packs_in_lines(const hipcommPlanRequest* request, const TuningRow* row, const hipcommPlan* plan) {
    const uint64_t world = (uint64_t)request->world;
    const uint64_t line_bytes = plan->line_packs == 1 ? HIPCOMM_LINE_BYTES : HIPCOMM_WIDE_LINE_BYTES;
    const uint64_t lines = row->line_capacity * HIPCOMM_LINE_BYTES / line_bytes;
    if (request->operation == hipcommOpBroadcast) return lines;
    if (plan->algorithm != hipcommAlgorithmTwoShot) return lines / world * plan->line_packs;
    /* two-shot: contributions and results, a shard from each rank, shards rounded up */
    return lines / 2 / world * world * plan->line_packs;
}

static bool is_point_to_point(hipcommOperation_t operation) {
    return operation == hipcommOpSend || operation == hipcommOpRecv;
}

/* Whether peers' writes reach what this device has cached, and the other way round (docs/amd.md). */
static bool reaches_registered_memory(const TuningRow* row) { return !row->staging_uncached; }

static bool takes_direct(const hipcommPlanRequest* request, const TuningRow* row) {
    if (!reaches_registered_memory(row)) return false;
    const int class = world_class(request->world);
    switch (request->operation) {
        case hipcommOpAllReduce: return request->bytes >= row->all_reduce_direct[class];
        case hipcommOpAllGather: return request->bytes >= row->all_gather_direct[class];
        case hipcommOpBroadcast: return request->bytes >= row->broadcast_direct[class];
        case hipcommOpReduceScatter: return request->bytes >= row->reduce_scatter_direct[class];
        case hipcommOpAllToAll:
        case hipcommOpAllGatherv:
        case hipcommOpAllGatherRows: return request->bytes >= row->exchange_direct[class];
        default: return false;
    }
}

static hipcommAlgorithm_t choose(const hipcommPlanRequest* request, const TuningRow* row) {
    const int class = world_class(request->world);
    if (request->registered && takes_direct(request, row)) return hipcommAlgorithmDirect;
    switch (request->operation) {
        case hipcommOpAllReduce:
            if (request->bytes <= row->all_reduce_one_shot[class]) return hipcommAlgorithmOneShot;
            if (request->bytes <= row->all_reduce_staged[class]) return hipcommAlgorithmStaged;
            if (request->bytes <= row->all_reduce_two_shot[class]) return hipcommAlgorithmTwoShot;
            return hipcommAlgorithmPipelined;
        case hipcommOpAllGather:
            return request->bytes <= row->all_gather_one_shot[class] ? hipcommAlgorithmOneShot
                                                                     : hipcommAlgorithmPipelined;
        case hipcommOpBroadcast:
            return request->bytes <= row->broadcast_one_shot[class] ? hipcommAlgorithmOneShot
                                                                    : hipcommAlgorithmPipelined;
        case hipcommOpReduceScatter:
            return request->bytes <= row->reduce_scatter_one_shot[class] ? hipcommAlgorithmOneShot
                                                                         : hipcommAlgorithmPipelined;
        case hipcommOpReduce:
            return request->bytes <= row->reduce_one_shot[class] ? hipcommAlgorithmOneShot
                                                                 : hipcommAlgorithmPipelined;
        case hipcommOpSend:
        case hipcommOpRecv:
            return request->bytes <= row->send_one_shot[class] ? hipcommAlgorithmOneShot
                                                               : hipcommAlgorithmPipelined;
        case hipcommOpAllToAllv: return hipcommAlgorithmPipelined; /* and lines, as each pair decides */
        case hipcommOpBarrier: return hipcommAlgorithmOneShot;
        default: return request->bytes <= row->exchange_one_shot[class] ? hipcommAlgorithmOneShot
                                                                        : hipcommAlgorithmPipelined;
    }
}

static void plan_units(const hipcommPlanRequest* request, const TuningRow* row, uint32_t max_blocks,
                       hipcommPlan* plan) {
    enum { kWholePacksAndUnits = 48 }; /* so that what the next launch moves is aligned as what this one does */
    const uint64_t words = HIPCOMM_UNIT_WORDS(row->part_words, dtype_size(request->dtype));
    const uint64_t line_bytes = words / row->part_words * (row->part_words + 1) * 4;
    const uint64_t capacity =
        row->line_capacity * (uint64_t)HIPCOMM_LINE_BYTES / line_bytes / (uint64_t)request->world;
    plan->unit_bytes = (uint32_t)words * 4;
    plan->bytes_per_launch = capacity * plan->unit_bytes / kWholePacksAndUnits * kWholePacksAndUnits;
    plan->shared_bytes = tile_bytes(0, 0);
    const uint64_t units = ceil_div(min_u64(request->bytes, plan->bytes_per_launch), plan->unit_bytes);
    /* small blocks spread the work; they grow when blocks run out, so that a thread need not take several units */
    const uint32_t most = (uint32_t)min_u64(row->threads, HIPCOMM_MAX_UNIT_THREADS);
    plan->threads = row->unit_threads;
    while (ceil_div(units, plan->threads) > max_blocks && 2 * plan->threads <= most) plan->threads *= 2;
    plan->blocks = (uint32_t)max_u64(1, min_u64(ceil_div(units, plan->threads), max_blocks));
}

static void plan_lines(const hipcommPlanRequest* request, const TuningRow* row, uint32_t max_blocks,
                       hipcommPlan* plan) {
    const uint64_t world = (uint64_t)request->world;
    const int class = world_class(request->world);
    const bool in_tiles = works_in_tiles(request->operation);
    const int wide_kernel = wide_kernel_index(plan->kernel);
    const bool wide = wide_kernel >= 0 && (request->bytes >= row->wide_lines[class] ||
                                           request->bytes > row->units[class]);
    if (wide) plan->kernel = wide_kernel;
    plan->line_packs = wide ? HIPCOMM_WIDE_LINE_PACKS : 1;
    const uint64_t capacity = packs_in_lines(request, row, plan);
    plan->bytes_per_launch = capacity * HIPCOMM_PACK_BYTES;
    const uint64_t packs = min_u64(ceil_div(request->bytes, HIPCOMM_PACK_BYTES), capacity);
    uint64_t blocks;
    if (!in_tiles) {
        plan->shared_bytes = tile_bytes(0, 0);
        blocks = ceil_div(packs * world, row->threads);
    } else {
        const bool two_shot = plan->algorithm == hipcommAlgorithmTwoShot;
        const uint64_t lines = ceil_div(packs, plan->line_packs);
        const uint64_t per_rank = two_shot ? ceil_div(lines, world) : lines;
        /* small tiles spread the work over many blocks; they grow when blocks run out, so that one block
         * need not take several tiles in turn */
        uint32_t shift = wide ? row->wide_tile_shift[class] : row->tile_shift;
        while (ceil_div(per_rank, 1ull << shift) > max_blocks && world << (shift + 1) <= row->threads) ++shift;
        plan->tile_shift = shift;
        plan->shared_bytes = tile_bytes(plan->line_packs << shift, request->world + (two_shot ? 1 : 0));
        blocks = ceil_div(per_rank, 1ull << shift);
        /* a thread per line and rank of the tile; fewer threads start and meet faster */
        plan->threads = (uint32_t)min_u64(row->threads, world << shift);
    }
    plan->blocks = (uint32_t)max_u64(1, min_u64(blocks, max_blocks));
}

/* Cells of a chunk each in a slot of a block: areas of a slot, cells of an area (kernels/data/staging.h). */
static uint64_t cells_of_slot(const hipcommPlanRequest* request) {
    const uint64_t world = (uint64_t)request->world;
    switch (request->operation) {
        case hipcommOpAllReduce: return 2; /* a chunk over all cells of an area */
        case hipcommOpBroadcast: return 1;
        case hipcommOpReduce: return 2 * world;
        default: return world;
    }
}

/* Operations whose message has a part for each rank, or from each; request->bytes is the length of one. */
static bool has_parts(hipcommOperation_t operation) {
    return operation != hipcommOpAllReduce && operation != hipcommOpBroadcast && operation != hipcommOpReduce;
}

static uint64_t pipeline_chunk(uint64_t packs, uint64_t chunks, uint64_t least, uint64_t unit) {
    return ceil_div(max_u64(least, ceil_div(packs, chunks)), unit) * unit;
}

static uint64_t max_chunk_packs(const hipcommPlanRequest* request, const TuningRow* row) {
    return row->max_chunk[world_class(request->world)] / HIPCOMM_PACK_BYTES;
}

/* As few steps as chunks may be long; few steps need few slots. */
static uint64_t steps_wanted(const hipcommPlanRequest* request, const TuningRow* row, uint64_t blocks, uint64_t packs) {
    if (request->operation == hipcommOpAllToAllv) return HIPCOMM_RING_SLOTS;
    if (!has_parts(request->operation))
        return max_u64(row->min_steps, ceil_div(packs, blocks * max_chunk_packs(request, row)));
    if (packs * (uint64_t)request->world <= blocks * (row->max_one_step / HIPCOMM_PACK_BYTES)) return 1;
    const uint64_t wanted =
        max_u64(row->min_part_steps, ceil_div(packs, blocks * (row->max_part_chunk / HIPCOMM_PACK_BYTES)));
    /* no more than chunks of the smallest size make: a step without a chunk takes room from the others' */
    return max_u64(1, min_u64(wanted, packs / (blocks * (row->min_chunk / HIPCOMM_PACK_BYTES))));
}

/* Bytes of the staging slab that a launch may use. */
static uint64_t staging_of_launch(const hipcommPlanRequest* request, const TuningRow* row) {
    return (request->staging_bytes ? request->staging_bytes : row->staging_bytes) / 2;
}

static void plan_pipeline(const hipcommPlanRequest* request, const TuningRow* row, uint32_t max_blocks,
                          hipcommPlan* plan) {
    const uint64_t world = (uint64_t)request->world;
    const uint64_t staging = staging_of_launch(request, row);
    const uint64_t least = row->min_chunk / HIPCOMM_PACK_BYTES;
    uint64_t packs = ceil_div(request->bytes, HIPCOMM_PACK_BYTES);
    if (request->operation == hipcommOpReduce) packs = ceil_div(packs, world); /* a segment for each rank */
    /* no rank knows the longest part: many blocks, with small steps */
    if (request->operation == hipcommOpAllToAllv) packs = row->pipelined_blocks * least;

    const uint64_t blocks = max_u64(1, min_u64(min_u64(row->pipelined_blocks, max_blocks), ceil_div(packs, least)));
    /* a cell's packs if a block has one slot; and what they come in: an all-reduce's chunk is whole shards */
    const uint64_t room = staging / (blocks * cells_of_slot(request) * HIPCOMM_PACK_BYTES);
    const uint64_t unit = request->operation == hipcommOpAllReduce ? world : 1;
    uint64_t steps = steps_wanted(request, row, blocks, packs);
    uint64_t chunk = pipeline_chunk(packs, blocks * steps, least, unit);
    for (; steps < HIPCOMM_RING_SLOTS && chunk > room / steps; chunk = pipeline_chunk(packs, blocks * steps, least, unit))
        ++steps;
    chunk = min_u64(chunk, max_u64(room / min_u64(steps, HIPCOMM_RING_SLOTS) / unit, 1) * unit);
    plan->chunk_packs = (uint32_t)chunk;
    plan->blocks = (uint32_t)min_u64(blocks, ceil_div(packs, chunk)); /* rounding up may leave some without work */
    plan->shared_bytes = tile_bytes(0, 0);
    plan->bytes_per_launch = UINT64_MAX;
}

/* A chunk for each block, and all of the message in staging memory at once: what does not fit takes several
 * launches. */
static void plan_staged(const hipcommPlanRequest* request, const TuningRow* row, uint32_t max_blocks,
                        hipcommPlan* plan) {
    const uint64_t least = row->min_chunk / HIPCOMM_PACK_BYTES;
    const uint64_t room = max_u64(1, staging_of_launch(request, row) / HIPCOMM_PACK_BYTES);
    const uint64_t packs = min_u64(ceil_div(request->bytes, HIPCOMM_PACK_BYTES), room);
    const uint64_t blocks = max_u64(1, min_u64(min_u64(row->pipelined_blocks, max_blocks), ceil_div(packs, least)));
    const uint64_t chunk = min_u64(ceil_div(packs, blocks), room / blocks);
    plan->chunk_packs = (uint32_t)chunk;
    plan->blocks = (uint32_t)min_u64(blocks, ceil_div(packs, chunk)); /* rounding up may leave some without work */
    plan->shared_bytes = tile_bytes(0, 0);
    plan->bytes_per_launch = plan->blocks * chunk * HIPCOMM_PACK_BYTES;
}

/* Exchange: bytes up to which a segment goes as lines. Of all_to_all_v each pair decides for itself, within what one
 * launch's lines can carry. */
static uint64_t segment_line_bytes(const hipcommPlanRequest* request, const TuningRow* row, const hipcommPlan* plan) {
    if (request->operation != hipcommOpAllToAllv) return plan->algorithm == hipcommAlgorithmOneShot ? UINT64_MAX : 0;
    const uint64_t room = row->line_capacity / (uint64_t)request->world * HIPCOMM_PACK_BYTES;
    return min_u64(row->exchange_one_shot[world_class(request->world)], room);
}

/* Blocks work side by side on the packs of a shard or a part; each has two barriers of its own. */
static void plan_direct(const hipcommPlanRequest* request, const TuningRow* row, uint32_t max_blocks,
                        hipcommPlan* plan) {
    enum { kRankBuffers = 2 * HIPCOMM_MAX_RANKS * 8 }; /* kernels/direct/rank_buffers.h */
    uint64_t packs = ceil_div(request->bytes, HIPCOMM_PACK_BYTES);
    if (request->operation == hipcommOpAllReduce || request->operation == hipcommOpBroadcast)
        packs = ceil_div(packs, (uint64_t)request->world);
    plan->blocks = (uint32_t)max_u64(1, min_u64(ceil_div(packs, row->threads), max_blocks));
    plan->shared_bytes = tile_bytes(0, 0) + kRankBuffers;
}

/* Whether a forced algorithm is one that this call cannot take. */
static bool cannot_take(const hipcommPlanRequest* request, const TuningRow* row, hipcommAlgorithm_t algorithm) {
    if (kernel_index(request->operation, algorithm, request->dtype, request->op) < 0) return true;
    if (algorithm == hipcommAlgorithmDirect) return !request->registered || !reaches_registered_memory(row);
    /* a message is one launch: what does not fit into a slot cannot go as lines */
    return is_point_to_point(request->operation) && algorithm == hipcommAlgorithmOneShot &&
           request->bytes > HIPCOMM_CHANNEL_SLOT_LINES((uint32_t)request->world) * (uint64_t)HIPCOMM_PACK_BYTES;
}

/* One message to one rank: as lines of its channel's slot, or through the channel's part of the staging
 * slab, which its blocks share. */
static void plan_message(const hipcommPlanRequest* request, const TuningRow* row, uint32_t max_blocks,
                         hipcommPlan* plan) {
    const uint64_t packs = ceil_div(request->bytes, HIPCOMM_PACK_BYTES);
    plan->shared_bytes = tile_bytes(0, 0);
    if (plan->algorithm == hipcommAlgorithmOneShot) {
        plan->blocks = (uint32_t)max_u64(1, min_u64(ceil_div(packs, row->threads), max_blocks));
        return;
    }
    const uint64_t ring = HIPCOMM_CHANNEL_RING_BYTES((uint32_t)request->world) / HIPCOMM_PACK_BYTES;
    const uint64_t per_slot = ring / HIPCOMM_CHANNEL_RING; /* packs under way at once, of all blocks */
    const uint64_t least = min_u64(row->min_chunk / HIPCOMM_PACK_BYTES, per_slot);
    uint64_t blocks = min_u64(min_u64(row->pipelined_blocks, max_blocks), per_slot / least);
    blocks = max_u64(1, min_u64(blocks, ceil_div(packs, least)));
    const uint64_t chunk = max_u64(least, ceil_div(packs, blocks * row->min_steps));
    plan->blocks = (uint32_t)blocks;
    plan->chunk_packs =
        (uint32_t)min_u64(min_u64(chunk, max_chunk_packs(request, row)), per_slot / blocks);
}

void make_plan(const hipcommPlanRequest* request, const TuningRow* row, hipcommPlan* plan) {
    memset(plan, 0, sizeof *plan);
    plan->kernel = -1;
    plan->bytes_per_launch = UINT64_MAX;
    if (request->world == 1) {
        plan->algorithm = hipcommAlgorithmCopy;
        return;
    }
    /* nothing to move, as all ranks know */
    if (request->bytes == 0 && request->operation != hipcommOpBarrier &&
        request->operation != hipcommOpAllToAllv && !is_point_to_point(request->operation))
        return;

    /* a forced algorithm that this call cannot take leaves the choice open */
    plan->algorithm = request->operation == hipcommOpAllToAllv ? hipcommAlgorithmAuto : request->algorithm;
    if (cannot_take(request, row, plan->algorithm)) plan->algorithm = choose(request, row);
    plan->kernel = kernel_index(request->operation, plan->algorithm, request->dtype, request->op);
    plan->threads = row->threads;
    plan->line_bytes = segment_line_bytes(request, row, plan);

    const uint32_t max_blocks =
        request->max_blocks ? (uint32_t)min_u64(request->max_blocks, row->max_blocks) : row->max_blocks;
    if (request->operation == hipcommOpBarrier) {
        plan->blocks = 1;
        plan->shared_bytes = tile_bytes(0, 0);
    } else if (is_point_to_point(request->operation)) {
        plan_message(request, row, max_blocks, plan);
    } else if (plan->algorithm == hipcommAlgorithmPipelined) {
        plan_pipeline(request, row, max_blocks, plan);
    } else if (plan->algorithm == hipcommAlgorithmStaged) {
        plan_staged(request, row, max_blocks, plan);
    } else if (plan->algorithm == hipcommAlgorithmDirect) {
        plan_direct(request, row, max_blocks, plan);
    } else if (works_in_units(request, row, plan->algorithm)) {
        plan_units(request, row, max_blocks, plan);
    } else {
        plan_lines(request, row, max_blocks, plan);
    }
}

hipcommResult_t hipcommMakePlan(const hipcommPlanRequest* request, hipcommPlan* plan) {
    if (!request || !plan || !request->arch || (int)request->operation < 0 ||
        request->operation >= hipcommNumOperations || !dtype_is_valid((int)request->dtype) ||
        !redop_is_valid((int)request->op) || request->world < 1 || request->world > HIPCOMM_MAX_RANKS ||
        (int)request->algorithm < 0 || request->algorithm >= hipcommNumAlgorithms ||
        request->bytes > HIPCOMM_MAX_MESSAGE_BYTES || request->staging_bytes > HIPCOMM_MAX_STAGING_BYTES)
        return hipcommInvalidArgument;
    make_plan(request, tuning_row(request->arch), plan);
    return hipcommSuccess;
}
