/* All-gather, pipelined through the staging slab: for messages of any length.
 *
 *   push     copy my chunk into every peer's staging, signal
 *   collect  wait for all peers' chunks, copy them into my result
 *
 * Why the ring needs four slots, with push(s), collect(s - 1) in one turn: push(s) overwrites step s - 4.
 * collect(s - 2) heard that everybody had pushed s - 2; they did so after their collect(s - 4).
 */
#include "common/epoch.h"
#include "common/signal.h"
#include "common/staging.h"

constexpr uint32_t kRing = 4;
constexpr uint32_t kAreas = 1;
enum Phase : uint32_t { kPushed };

DEVICE void all_gather_pipelined(const hipcommKernelArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args, g);
    const Message send = message(args.send, args.bytes);
    const uint64_t packs = packs_of(args.bytes);
    const uint32_t steps = steps_of_block(launch, packs);
    const Staging<kRing, kAreas> cells{launch, args.chunk_packs, args.world};
    char* const recv = static_cast<char*>(args.recv);
    const bool in_place = recv + args.rank * args.recv_stride == args.send;

    for (uint32_t turn = 0; turn < steps + 1; ++turn) {
        if (turn < steps) {
            const Chunk chunk = chunk_of_step(launch, packs, turn);
            for (uint32_t i = 1; i < args.world; ++i) {
                const uint32_t peer = (args.rank + i) % args.world;
                stage(launch, cells.cell(peer, turn, 0, args.rank), send, chunk);
            }
            signal_peers(launch, kPushed, turn + 1);
            if (!in_place)
                copy_message(g, message(recv + args.rank * args.recv_stride, args.bytes), send,
                             chunk.first, chunk.packs);
        }
        if (turn >= 1) {
            const uint32_t step = turn - 1;
            const Chunk chunk = chunk_of_step(launch, packs, step);
            if (!wait_for_peers(launch, kPushed, step + 1)) break;
            for (uint32_t i = 1; i < args.world; ++i) {
                const uint32_t sender = (args.rank + i) % args.world;
                unstage(launch, message(recv + sender * args.recv_stride, args.bytes), chunk,
                        cells.cell(args.rank, step, 0, sender));
            }
        }
    }
    end_launch(launch);
}

KERNEL(hipcomm_all_gather_pipelined, all_gather_pipelined)
