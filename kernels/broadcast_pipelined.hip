/* Broadcast, pipelined through the staging slab: for messages of any length.
 *
 *   push     the root copies its chunk into every peer's staging, signals
 *   collect  the others wait for it, copy it into their result, and signal that the slot is free
 *
 * push(s) overwrites step s - kRing: the root waits until everybody has collected it. At the end
 * everybody hears from everybody (kernels/abi.h, the rule of the epochs).
 */
#include "common/epoch.h"
#include "common/signal.h"
#include "common/staging.h"

constexpr uint32_t kRing = 4;
constexpr uint32_t kAreas = 1;
enum Phase : uint32_t { kPushed, kCollected };

DEVICE void broadcast_pipelined(const hipcommKernelArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args, g);
    const Message send = message(args.send, args.bytes);
    const Message recv = message(args.recv, args.bytes);
    const uint64_t packs = packs_of(args.bytes);
    const uint32_t steps = steps_of_block(launch, packs);
    const Staging<kRing, kAreas> cells{launch, args.chunk_packs, 1};
    const bool is_root = args.rank == args.root;

    bool failed = false;
    for (uint32_t step = 0; step < steps; ++step) {
        const Chunk chunk = chunk_of_step(launch, packs, step);
        if (is_root) {
            failed = step >= kRing && !wait_for_peers(launch, kCollected, step + 1 - kRing);
            if (failed) break;
            for (uint32_t i = 1; i < args.world; ++i) {
                const uint32_t peer = (args.rank + i) % args.world;
                stage(launch, cells.cell(peer, step, 0, 0), send, chunk);
            }
            signal_peers(launch, kPushed, step + 1);
            if (args.recv != args.send) copy_message(g, recv, send, chunk.first, chunk.packs);
        } else {
            failed = !wait_for_peer(launch, args.root, kPushed, step + 1);
            if (failed) break;
            unstage(launch, recv, chunk, cells.cell(args.rank, step, 0, 0));
            signal_peers(launch, kCollected, step + 1);
        }
    }
    if (!failed) {
        if (is_root) signal_peers(launch, kCollected, steps);
        wait_for_peers(launch, kCollected, 1);
    }
    end_launch(launch);
}

KERNEL(hipcomm_broadcast_pipelined, broadcast_pipelined)
