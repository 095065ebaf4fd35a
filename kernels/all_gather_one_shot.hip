/* All-gather, flag-in-data: every rank sends its message to every peer as lines. One one-way latency.
 *
 * Work is cut into tiles of 2^tile_shift packs; a block takes every blocks-th tile. Within a tile the
 * threads stand side by side for (peer, pack). Line layout at the receiver: [sender][pack].
 */
#include "common/epoch.h"
#include "common/pack.h"

DEVICE void all_gather_one_shot(const hipcommKernelArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args, g);
    const Message send = message(args.send, args.bytes);
    const uint32_t packs = uint32_t(packs_of(args.bytes));
    const uint32_t tile_packs = 1u << args.tile_shift;
    const uint32_t tiles = (packs + tile_packs - 1) >> args.tile_shift;

    for (uint32_t tile = g.block; tile < tiles; tile += g.blocks) {
        for (uint32_t i = g.thread; i < tile_packs * args.world; i += g.threads) {
            const uint32_t peer = i >> args.tile_shift;
            const uint32_t pack = (tile << args.tile_shift) + (i & (tile_packs - 1));
            if (peer == args.rank || pack >= packs) continue;
            send_line(launch, peer, uint64_t(args.rank) * packs + pack, load_message(send, pack));
        }
    }
    for (uint32_t tile = g.block; tile < tiles; tile += g.blocks) {
        for (uint32_t i = g.thread; i < tile_packs * args.world; i += g.threads) {
            const uint32_t sender = i >> args.tile_shift;
            const uint32_t pack = (tile << args.tile_shift) + (i & (tile_packs - 1));
            if (pack >= packs) continue;
            const Message recv = message(static_cast<char*>(args.recv) + sender * args.recv_stride, args.bytes);
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
