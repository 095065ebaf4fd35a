/* All-gather, flag-in-data: every rank sends its message to every peer as lines. One one-way latency.
 * Threads stand side by side for (peer, pack); line layout at the receiver: [sender][pack]. */
#include "common/epoch.h"
#include "common/pack.h"

DEVICE void all_gather_one_shot(const hipcommKernelArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args, g);
    const Message send = message(args.send, args.bytes);
    const uint32_t packs = uint32_t(packs_of(args.bytes));
    const uint32_t first = g.block * g.threads + g.thread;
    const uint32_t stride = g.blocks * g.threads;

    for (uint32_t i = first; i < packs * args.world; i += stride) {
        const uint32_t peer = i / packs;
        const uint32_t pack = i % packs;
        if (peer == args.rank) continue;
        send_line(launch, peer, uint64_t(args.rank) * packs + pack, load_message(send, pack));
    }
    for (uint32_t i = first; i < packs * args.world; i += stride) {
        const uint32_t sender = i / packs;
        const uint32_t pack = i % packs;
        const Message recv =
            message(static_cast<char*>(args.recv) + sender * args.recv_stride, args.bytes);
        const Pack arrived = sender == args.rank
                                 ? load_message(send, pack)
                                 : receive_line(launch, sender, uint64_t(sender) * packs + pack);
        if (block_failed(launch)) break;
        store_message(recv, pack, arrived);
    }
    end_launch(launch);
}

KERNEL(hipcomm_all_gather_one_shot, all_gather_one_shot)
