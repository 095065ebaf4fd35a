/* Reduce-scatter and reduce, pipelined through the staging slab: for messages of any length. Rank p owns
 * segment p.
 *
 *   push     copy my chunk of segment p into owner p's staging (contributions)
 *   reduce   reduce everybody's contributions to my chunk; reduce_scatter: write it to my result; reduce:
 *            write it into the root's staging (results)
 *   collect  reduce, on the root: copy the results into the result
 * Turn t pushes step t, reduces step t - kDelay and collects step t - 2 kDelay.
 *
 * Reduce goes this way because no rank's links then carry more than 2 (n - 1)/n per byte of the message,
 * where sending everything to the root would put n - 1 on the root's. It cuts its message into segments
 * as equal as it can; all ranks make the turns of the longest.
 */
#include "../launch/epoch.h"
#include "../numbers/reduce_packs.h"
#include "../numbers/reduce_run.h"
#include "../numbers/reduction_kernels.h"
#include "contributions.h"

enum Stage : uint32_t { kPush, kReduce, kCollect }; /* the last is the root's, of a reduce */

/* Of a reduce; a reduce_scatter has none. */
DEVICE bool has_root(const Launch& launch) { return launch.args.root < launch.args.world; }

/* Contributions are cells 0 .. world - 1 of a slot; on a reduce, results are the world cells after them. */
DEVICE SegmentCells cells_of(const Launch& launch) {
    return {launch, kRing, has_root(launch) ? 2 * launch.args.world : launch.args.world};
}

/* My chunk of a step: what I have of it, and where its result goes. */
struct OwnChunk {
    Rows own;
    Chunk chunk;
    char* to;       /* my result; of a reduce, but for the root: a cell of the root's staging memory */
    bool staged;    /* whether it is that */
    uint32_t whole; /* packs that may be moved whole, from the first on */
};

DEVICE OwnChunk own_chunk(const Launch& launch, uint32_t step) {
    const uint32_t rank = launch.args.rank, root = launch.args.root;
    const Message send = send_segment(launch, rank);
    const Chunk chunk = chunk_of_segment(launch, packs_of(send.bytes), step);
    const Rows own = in_rows(launch, send);
    const bool staged = has_root(launch) && rank != root;
    char* to = static_cast<char*>(launch.args.recv);
    if (rank == root) to += segment_args(launch).segments[rank].recv_offset;
    if (staged) to = cells_of(launch).cell(root, step, launch.args.world + rank);
    const bool whole = own.one_row && send.whole_packs && (staged || message(to, send.bytes).whole_packs);
    return {own, chunk, to, staged, whole ? whole_packs(send, chunk.first, chunk.packs) : 0};
}

template <class T, class Op>
DEVICE void reduce_whole_packs(const Launch& launch, uint32_t step) {
    const hipcommKernelArgs& args = launch.args;
    const Geometry& g = launch.geometry;
    const OwnChunk mine = own_chunk(launch, step);
    const char* from = mine.own.all.base + mine.chunk.first * HIPCOMM_PACK_BYTES;
    char* const to = mine.staged ? mine.to : mine.to + mine.chunk.first * HIPCOMM_PACK_BYTES;
    const SegmentCells cells = cells_of(launch);
    if constexpr (kOneThread && kChosenByType<Op>) {
        reduce_run<T, Op>(
            args, uint64_t(mine.whole) * HIPCOMM_PACK_BYTES, {args.rank, 1},
            [&](uint32_t rank) -> const char* {
                return rank == args.rank ? from : cells.cell(args.rank, step, rank);
            },
            [=](uint32_t) { return to; });
    } else {
        const bool staged = mine.staged;
        reduce_packs<T, Op, kRanksInFlight, uint32_t>(
            args, {g.thread, mine.whole, g.threads}, {args.rank, 1},
            [=](uint32_t rank, uint32_t i) {
                const Launch again = new_phase(launch); /* fewer registers than to keep its arguments */
                const uint64_t at = uint64_t(i) * HIPCOMM_PACK_BYTES;
                return rank == again.args.rank ? load_pack(from + at)
                                               : load_staged(cells_of(again).cell(again.args.rank, step, rank) + at);
            },
            [=](uint32_t, uint32_t i, Pack pack) {
                char* at = to + uint64_t(i) * HIPCOMM_PACK_BYTES;
                staged ? store_staged(at, pack) : store_pack(at, pack);
            });
    }
}

template <class T, class Op>
DEVICE void reduce_other_packs(const Launch& launch, uint32_t step) {
    const hipcommKernelArgs& args = launch.args;
    const Geometry& g = launch.geometry;
    const OwnChunk mine = own_chunk(launch, step);
    reduce_packs<T, Op, 1, uint32_t>(
        args, {mine.whole + g.thread, mine.chunk.packs, g.threads}, {args.rank, 1},
        [&](uint32_t rank, uint32_t i) {
            if (rank == args.rank) return load_rows(mine.own, mine.chunk.first + i);
            const Launch again = new_phase(launch); /* keeps nothing in registers for the rare packs */
            return load_staged(cells_of(again).cell(again.args.rank, step, rank) + uint64_t(i) * HIPCOMM_PACK_BYTES);
        },
        [&](uint32_t, uint32_t i, Pack pack) {
            if (mine.staged)
                store_staged(mine.to + uint64_t(i) * HIPCOMM_PACK_BYTES, pack);
            else
                store_message(message(mine.to, mine.own.all.bytes), mine.chunk.first + i, pack);
        });
}

DEVICE void collect_results(const Launch& launch, uint32_t step) {
    const uint32_t rank = launch.args.rank, world = launch.args.world;
    NO_UNROLL
    for (uint32_t i = 1; i < world; ++i) {
        const uint32_t owner = (rank + i) % world;
        const Message recv = recv_segment(launch, owner);
        unstage(launch, recv, chunk_of_segment(launch, packs_of(recv.bytes), step),
                cells_of(launch).cell(rank, step, world + owner));
    }
}

template <class T, class Op>
DEVICE void reduce_pipelined(const hipcommSegmentArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args.common, g);
    const uint32_t steps = steps_of_block(launch, args.most_packs);
    const bool collects = launch.args.rank == launch.args.root;
    const Weights<3> weights{{3, 3, collects ? 1u : 0u}};
    in_turns(launch, steps, has_root(launch) ? 3 : 2, 1, [&](uint32_t turn) {
        in_stage(launch, weights, kPush, turn, steps,
                 [](const Launch& part, uint32_t step) { push_contributions(part, step, cells_of); });
        in_stage(launch, weights, kReduce, turn, steps, [](const Launch& part, uint32_t step) {
            reduce_whole_packs<T, Op>(part, step);
            reduce_other_packs<T, Op>(part, step);
        });
        if (collects)
            in_stage(launch, weights, kCollect, turn, steps,
                     [](const Launch& part, uint32_t step) { collect_results(part, step); });
    });
    end_launch(launch);
}

REDUCTION_KERNELS(reduce_pipelined, hipcommSegmentArgs, HIPCOMM_MAX_THREADS)
