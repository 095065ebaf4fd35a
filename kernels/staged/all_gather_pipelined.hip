/* All-gather, pipelined through the staging slab: for messages of any length.
 *
 *   push     copy my chunk into every peer's staging
 *   collect  copy the peers' chunks into my result
 * Turn t pushes step t and collects step t - kDelay.
 */
#include "../data/staging.h"
#include "../launch/epoch.h"
#include "turns.h"

using Cells = Staging<1>;

enum Stage : uint32_t { kPush, kCollect };
constexpr Weights<2> kWeights{{4, 3}};

DEVICE void push_chunk(const Launch& launch, uint32_t step) {
    const hipcommKernelArgs& args = launch.args;
    const Message send = message(args.send, args.bytes);
    const Chunk chunk = chunk_of_step(launch, packs_of(args.bytes), step);
    const Cells cells{launch, args.chunk_packs, args.world};
    NO_UNROLL
    for (uint32_t i = 0; i < args.world - 1; ++i) {
        const uint32_t peer = (args.rank + 1 + (i + launch.geometry.block) % (args.world - 1)) % args.world;
        stage(launch, cells.cell(peer, step, 0, args.rank), send, chunk);
    }
    char* own = static_cast<char*>(args.recv) + args.rank * args.recv_stride;
    if (own != args.send) copy_message(launch.geometry, message(own, args.bytes), send, chunk.first, chunk.packs);
}

DEVICE void collect_chunks(const Launch& launch, uint32_t step) {
    const hipcommKernelArgs& args = launch.args;
    const Chunk chunk = chunk_of_step(launch, packs_of(args.bytes), step);
    const Cells cells{launch, args.chunk_packs, args.world};
    NO_UNROLL
    for (uint32_t i = 1; i < args.world; ++i) {
        const uint32_t sender = (args.rank + i) % args.world;
        unstage(launch, message(static_cast<char*>(args.recv) + sender * args.recv_stride, args.bytes), chunk,
                cells.cell(args.rank, step, 0, sender));
    }
}

DEVICE void all_gather_pipelined(const hipcommKernelArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args, g);
    const uint32_t steps = steps_of_block(launch, packs_of(args.bytes));
    in_turns(launch, steps, 2, 1, [&](uint32_t turn) {
        in_stage(launch, kWeights, kPush, turn, steps,
                 [](const Launch& part, uint32_t step) { push_chunk(part, step); });
        in_stage(launch, kWeights, kCollect, turn, steps,
                 [](const Launch& part, uint32_t step) { collect_chunks(part, step); });
    });
    end_launch(launch);
}

KERNEL(hipcomm_all_gather_pipelined, all_gather_pipelined, hipcommKernelArgs, HIPCOMM_MAX_THREADS)
