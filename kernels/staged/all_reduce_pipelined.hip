/* All-reduce, pipelined two-shot through the staging slab: for messages of any length.
 *
 * Every chunk is split into one shard per rank. Three stages (staged/turns.h):
 *   push     copy shard p of my chunk into owner p's staging (contributions)
 *   reduce   reduce everybody's contributions to my shard; write the sum to my result and into
 *            everybody's staging (results; on the CPU where the contributions were: result_cell())
 *   collect  copy the other shards' results into my result
 * Turn t pushes step t, reduces step t - kDelay and collects step t - 2 kDelay.
 * Bytes over the links: 2 (n - 1)/n per byte of the message, the least that an all-reduce needs.
 */
#include "../launch/epoch.h"
#include "../numbers/reduction_kernels.h"
#include "reduce_staged.h"
#include "shards.h"
#include "turns.h"

enum Area : uint32_t { kContributions, kResults, kAreas };

using Cells = Staging<kAreas>;

enum Stage : uint32_t { kPush, kReduce, kCollect };
constexpr Weights<3> kWeights{{2, 3, 2}};

DEVICE Cells cells_of(const Launch& launch) {
    const uint32_t world = launch.args.world;
    return {launch, (launch.args.chunk_packs + world - 1) / world, world};
}

/* Where `reader` finds the result of `owner`: in its own staging memory, for GPUs write over links faster than
 * they read. In one machine's memory (the CPU) in the very cell where its contribution was: so a cache line
 * goes to and fro between two cores and is never fetched only to be overwritten (docs/journal.md); the area
 * of results stays empty. */
DEVICE char* result_cell(const Cells& cells, uint32_t owner, uint32_t step, uint32_t reader) {
    return kOneThread ? cells.cell(owner, step, kContributions, reader) : cells.cell(reader, step, kResults, owner);
}

DEVICE void push_shards(const Launch& launch, uint32_t step) {
    const hipcommKernelArgs& args = launch.args;
    const Cells cells = cells_of(launch);
    stage_shards(launch, message(args.send, args.bytes), chunk_of_step(launch, packs_of(args.bytes), step),
                 args.rank, [&](uint32_t owner) { return cells.cell(owner, step, kContributions, args.rank); });
}

template <class T, class Op>
DEVICE void reduce_shard(const Launch& launch, uint32_t step) {
    const hipcommKernelArgs& args = launch.args;
    const Chunk shard = shard_of(chunk_of_step(launch, packs_of(args.bytes), step), args.rank, args.world);
    const Cells cells = cells_of(launch);
    /* every rank begins with another peer, so that all links are busy */
    const Receivers everybody{args.rank + 1, args.world};
    reduce_chunk<T, Op>(
        launch, shard, everybody,
        [&](uint32_t rank) -> const char* { return cells.cell(args.rank, step, kContributions, rank); },
        [&](uint32_t rank) { return result_cell(cells, args.rank, step, rank); });
}

DEVICE void collect_shards(const Launch& launch, uint32_t step) {
    const hipcommKernelArgs& args = launch.args;
    const Cells cells = cells_of(launch);
    unstage_shards(launch, message(args.recv, args.bytes), chunk_of_step(launch, packs_of(args.bytes), step),
                   args.rank, [&](uint32_t owner) { return result_cell(cells, owner, step, args.rank); });
}

template <class T, class Op>
DEVICE void all_reduce_pipelined(const hipcommKernelArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args, g);
    const uint32_t steps = steps_of_block(launch, packs_of(args.bytes));
    const bool one_step = packs_of(args.bytes) <= uint64_t(args.blocks) * args.chunk_packs; /* of every block */
    in_turns(launch, steps, 3, one_step ? 3 : 2, [&](uint32_t turn) {
        /* collected before the same slot is pushed into: on the CPU they share a cell */
        in_stage(launch, kWeights, kCollect, turn, steps,
                 [](const Launch& part, uint32_t step) { collect_shards(part, step); });
        in_stage(launch, kWeights, kReduce, turn, steps,
                 [](const Launch& part, uint32_t step) { reduce_shard<T, Op>(part, step); });
        in_stage(launch, kWeights, kPush, turn, steps,
                 [](const Launch& part, uint32_t step) { push_shards(part, step); });
    });
    end_launch(launch);
}

REDUCTION_KERNELS(all_reduce_pipelined, hipcommKernelArgs, HIPCOMM_MAX_THREADS)
