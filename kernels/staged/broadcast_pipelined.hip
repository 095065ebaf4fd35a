/* Broadcast, pipelined through the staging slab: for messages of any length.
 *
 *   push     the root copies its chunk into every peer's staging
 *   collect  the others copy it into their result
 * Turn t pushes step t and collects step t - kDelay. Everybody takes part in every turn, so the root does not
 * overwrite what is still being read, and everybody hears from everybody.
 */
#include "../data/staging.h"
#include "../launch/epoch.h"
#include "turns.h"

using Cells = Staging<1>;

constexpr Weights<1> kAlone{{1}}; /* a rank has one of the stages only */

DEVICE void push_chunk(const Launch& launch, uint32_t step) {
    const hipcommKernelArgs& args = launch.args;
    const Message send = message(args.send, args.bytes);
    const Chunk chunk = chunk_of_step(launch, packs_of(args.bytes), step);
    const Cells cells{launch, args.chunk_packs, 1};
    NO_UNROLL
    for (uint32_t i = 1; i < args.world; ++i)
        stage(launch, cells.cell((args.rank + i) % args.world, step, 0, 0), send, chunk);
    if (args.recv != args.send)
        copy_message(launch.geometry, message(args.recv, args.bytes), send, chunk.first, chunk.packs);
}

DEVICE void collect_chunk(const Launch& launch, uint32_t step) {
    const hipcommKernelArgs& args = launch.args;
    const Cells cells{launch, args.chunk_packs, 1};
    unstage(launch, message(args.recv, args.bytes), chunk_of_step(launch, packs_of(args.bytes), step),
            cells.cell(args.rank, step, 0, 0));
}

DEVICE void broadcast_pipelined(const hipcommKernelArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args, g);
    const uint32_t steps = steps_of_block(launch, packs_of(args.bytes));
    const bool is_root = args.rank == args.root;
    in_turns(launch, steps, 2, 1, [&](uint32_t turn) {
        if (is_root)
            in_stage(launch, kAlone, 0, turn, steps,
                     [](const Launch& part, uint32_t step) { push_chunk(part, step); });
        else if (turn >= kDelay)
            in_stage(launch, kAlone, 0, turn - kDelay, steps,
                     [](const Launch& part, uint32_t step) { collect_chunk(part, step); });
    });
    end_launch(launch);
}

KERNEL(hipcomm_broadcast_pipelined, broadcast_pipelined, hipcommKernelArgs, HIPCOMM_MAX_THREADS)
