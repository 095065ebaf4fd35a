/* Exchange, pipelined through the staging slab: every rank sends a segment to every rank, and all ranks know
 * how long the longest is. This is all_to_all with equal counts, gather, scatter, all_gather with unequal
 * counts and along any dimension. (Where pairs alone know their lengths: exchange.hip.)
 *
 *   push     copy my chunk for each peer into that peer's staging
 *   collect  copy the peers' chunks for me into my result
 * Turn t pushes step t and collects step t - kDelay.
 */
#include "../data/own_segment.h"
#include "../launch/epoch.h"
#include "turns.h"

enum Stage : uint32_t { kPush, kCollect };
constexpr Weights<2> kWeights{{4, 3}};

DEVICE SegmentCells cells_of(const Launch& launch) { return {launch, kRing, launch.args.world}; }

DEVICE void push_chunks(const Launch& launch, uint32_t step) {
    const uint32_t rank = launch.args.rank, world = launch.args.world;
    /* every rank, and every block, begins with another peer, so that all links are busy */
    NO_UNROLL
    for (uint32_t i = 0; i < world - 1; ++i) {
        const uint32_t peer = (rank + 1 + (i + launch.geometry.block) % (world - 1)) % world;
        const Message send = send_segment(launch, peer);
        stage(launch, cells_of(launch).cell(peer, step, rank), send,
              chunk_of_segment(launch, packs_of(send.bytes), step));
    }
}

DEVICE void copy_own_chunk(const Launch& launch, uint32_t step) {
    const uint64_t bytes = send_segment(launch, launch.args.rank).bytes;
    copy_own_segment(launch, chunk_of_segment(launch, packs_of(bytes), step));
}

DEVICE void collect_chunks(const Launch& launch, uint32_t step) {
    const uint32_t rank = launch.args.rank, world = launch.args.world;
    NO_UNROLL
    for (uint32_t i = 1; i < world; ++i) {
        const uint32_t sender = (rank + i) % world;
        const Message recv = recv_segment(launch, sender);
        unstage_rows(launch, in_rows(launch, recv), chunk_of_segment(launch, packs_of(recv.bytes), step),
                     cells_of(launch).cell(rank, step, sender));
    }
}

DEVICE void exchange_pipelined(const hipcommSegmentArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args.common, g);
    const uint32_t steps = steps_of_block(launch, args.most_packs);
    in_turns(launch, steps, 2, 1, [&](uint32_t turn) {
        in_stage(launch, kWeights, kPush, turn, steps, [](const Launch& part, uint32_t step) {
            push_chunks(part, step);
            copy_own_chunk(part, step);
        });
        in_stage(launch, kWeights, kCollect, turn, steps,
                 [](const Launch& part, uint32_t step) { collect_chunks(part, step); });
    });
    end_launch(launch);
}

KERNEL(hipcomm_exchange_pipelined, exchange_pipelined, hipcommSegmentArgs, HIPCOMM_MAX_THREADS)
