/* Broadcast, flag-in-data: the root sends its message to every peer as lines. One one-way latency.
 *
 * Everybody also tells everybody that it has come: no rank may leave an epoch before it has heard from
 * all (hipcomm/abi/slabs.h), and the lines alone would tell only of the root. */
#include "../data/pack.h"
#include "../launch/epoch.h"

enum Phase : uint32_t { kCame };

DEVICE void broadcast_one_shot(const hipcommKernelArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args, g);
    if (is_behind_failure(launch)) return end_launch(launch);
    const Message send = message(args.send, args.bytes);
    const Message recv = message(args.recv, args.bytes);
    const uint32_t packs = uint32_t(packs_of(args.bytes));
    const uint32_t first = g.block * g.threads + g.thread;
    const uint32_t stride = g.blocks * g.threads;

    if (args.rank == args.root) {
        for (uint32_t i = first; i < packs * args.world; i += stride) {
            const uint32_t peer = i / packs;
            const uint32_t pack = i % packs;
            if (peer == args.rank) continue;
            send_line(launch, peer, pack, load_message(send, pack));
        }
    }
    signal_peers(launch, kCame, 1);
    for (uint32_t pack = first; pack < packs; pack += stride) {
        const Pack arrived =
            args.rank == args.root ? load_message(send, pack) : receive_line(launch, args.root, pack);
        if (block_failed(launch)) break;
        store_message(recv, pack, arrived);
    }
    wait_for_peers(launch, kCame, 1);
    end_launch(launch);
}

KERNEL(hipcomm_broadcast_one_shot, broadcast_one_shot, hipcommKernelArgs, HIPCOMM_MAX_THREADS)
