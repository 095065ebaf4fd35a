/* All-gather, pipelined through the staging slab: for messages of any length.
 *
 *   push     copy my chunk into every peer's staging
 *   collect  copy the peers' chunks into my result
 * Turn t pushes step t and collects step t - kDelay.
 */
#include "common/epoch.h"
#include "common/staging.h"
#include "common/turns.h"

using Cells = Staging<1>;

/* Who does what. */
constexpr Part kPush{1, 4};
constexpr Part kCollect{5, 3};

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
    const Part pushers = part_of_stage(kPush, steps), collectors = part_of_stage(kCollect, steps);
    in_turns(launch, steps, 2, [&](uint32_t turn) INLINE_LAMBDA {
        if (is_in(launch, pushers) && turn < steps) push_chunk(new_phase_of(launch, pushers), turn);
        if (is_in(launch, collectors) && has_step(turn, kDelay, steps))
            collect_chunks(new_phase_of(launch, collectors), turn - kDelay);
    });
    end_launch(launch);
}

KERNEL(hipcomm_all_gather_pipelined, all_gather_pipelined)
