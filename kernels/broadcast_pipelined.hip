/* Broadcast, pipelined through the staging slab: for messages of any length.
 *
 *   push     the root copies its chunk into every peer's staging
 *   collect  the others copy it into their result
 * Turn t pushes step t and collects step t - 1. Everybody takes part in every turn, so the root does not
 * overwrite what is still being read, and everybody hears from everybody.
 */
#include "common/epoch.h"
#include "common/staging.h"
#include "common/turns.h"

using Cells = Staging<1>;

DEVICE void broadcast_pipelined(const hipcommKernelArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args, g);
    const Message send = message(args.send, args.bytes);
    const Message recv = message(args.recv, args.bytes);
    const uint64_t packs = packs_of(args.bytes);
    const uint32_t steps = steps_of_block(launch, packs);
    const Cells cells{launch, args.chunk_packs, 1};
    const bool is_root = args.rank == args.root;

    in_turns(launch, steps + 1, [&](uint32_t turn) {
        if (is_root && turn < steps) {
            const Chunk chunk = chunk_of_step(launch, packs, turn);
            NO_UNROLL
            for (uint32_t i = 1; i < args.world; ++i) {
                const uint32_t peer = (args.rank + i) % args.world;
                stage(launch, cells.cell(peer, turn, 0, 0), send, chunk);
            }
            if (args.recv != args.send) copy_message(g, recv, send, chunk.first, chunk.packs);
        }
        if (!is_root && turn >= 1)
            unstage(launch, recv, chunk_of_step(launch, packs, turn - 1), cells.cell(args.rank, turn - 1, 0, 0));
    });
    end_launch(launch);
}

KERNEL(hipcomm_broadcast_pipelined, broadcast_pipelined)
