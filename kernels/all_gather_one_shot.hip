/* All-gather, flag-in-data: every rank sends its message to every peer as lines. One one-way latency.
 *
 * A tile is as many packs as a block can move to all peers at once; a block takes every blocks-th tile,
 * its threads side by side for (peer, pack). So a block hears from the same block of every peer, which
 * the wiping of old flags relies on (kernels/common/epoch.h). Line layout at the receiver:
 * [sender][pack].
 */
#include "common/epoch.h"
#include "common/pack.h"

DEVICE void all_gather_one_shot(const hipcommKernelArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args, g);
    const Message send = message(args.send, args.bytes);
    const uint32_t packs = uint32_t(packs_of(args.bytes));
    const uint32_t tile_packs = g.threads > args.world ? g.threads / args.world : 1;
    const uint32_t stride = g.blocks * tile_packs;

    for (uint32_t first = g.block * tile_packs; first < packs; first += stride) {
        for (uint32_t i = g.thread; i < tile_packs * args.world; i += g.threads) {
            const uint32_t peer = i / tile_packs;
            const uint32_t pack = first + i % tile_packs;
            if (peer == args.rank || pack >= packs) continue;
            send_line(launch, peer, uint64_t(args.rank) * packs + pack, load_message(send, pack));
        }
    }
    for (uint32_t first = g.block * tile_packs; first < packs && !block_failed(launch); first += stride) {
        for (uint32_t i = g.thread; i < tile_packs * args.world; i += g.threads) {
            const uint32_t sender = i / tile_packs;
            const uint32_t pack = first + i % tile_packs;
            if (pack >= packs) continue;
            const Message recv =
                message(static_cast<char*>(args.recv) + sender * args.recv_stride, args.bytes);
            const Pack arrived = sender == args.rank
                                     ? load_message(send, pack)
                                     : receive_line(launch, sender, uint64_t(sender) * packs + pack);
            if (block_failed(launch)) break;
            store_message(recv, pack, arrived);
        }
    }
    end_launch(launch);
}

KERNEL(hipcomm_all_gather_one_shot, all_gather_one_shot)
