/* All-reduce, flag-in-data one-shot: every rank sends its whole message to every peer as lines, and
 * reduces all messages itself. One one-way latency; (n - 1) x 2 x bytes over the links.
 *
 * Work is cut into tiles of 2^tile_shift packs; a block takes every blocks-th tile. Within a tile the
 * threads stand side by side for (peer, pack): they send to, and poll, different peers at once and meet
 * in the block's scratch. Line layout at the receiver: [sender][pack].
 */
#include "common/epoch.h"
#include "common/pack.h"
#include "common/reduce.h"

template <class T, class Op>
DEVICE void all_reduce_one_shot(const hipcommKernelArgs& args, const Geometry& g) {
    const Message send = message(args.send, args.bytes);
    const Message recv = message(args.recv, args.bytes);
    const uint32_t packs = uint32_t(packs_of(args.bytes));
    const uint32_t tile_packs = 1u << args.tile_shift;
    const uint32_t tiles = (packs + tile_packs - 1) >> args.tile_shift;
    const auto pack_of = [&](uint32_t tile, uint32_t i) {
        return (tile << args.tile_shift) + (i & (tile_packs - 1));
    };

    /* Most launches have one item per thread. Its load is sent out before the epoch is waited for. */
    const uint32_t first_pack = pack_of(g.block, g.thread);
    Pack first{};
    if (first_pack < packs && g.thread < tile_packs * args.world) first = load_message(send, first_pack);
    const auto load = [&](uint32_t tile, uint32_t i) {
        return tile == g.block && i == g.thread ? first : load_message(send, pack_of(tile, i));
    };

    const Launch launch = begin_launch(args, g);
    Pack* const arrived = tile_memory(launch); /* [rank][pack of the tile] */

    /* push */
    for (uint32_t tile = g.block; tile < tiles; tile += g.blocks) {
        for (uint32_t i = g.thread; i < tile_packs * args.world; i += g.threads) {
            const uint32_t peer = i >> args.tile_shift;
            const uint32_t pack = pack_of(tile, i);
            if (peer == args.rank || pack >= packs) continue;
            send_line(launch, peer, uint64_t(args.rank) * packs + pack, load(tile, i));
        }
    }

    /* wait and reduce */
    for (uint32_t tile = g.block; tile < tiles; tile += g.blocks) {
        for (uint32_t i = g.thread; i < tile_packs * args.world; i += g.threads) {
            const uint32_t peer = i >> args.tile_shift;
            const uint32_t pack = pack_of(tile, i);
            if (pack >= packs) continue;
            arrived[i] = peer == args.rank ? load(tile, i)
                                           : receive_line(launch, peer, uint64_t(peer) * packs + pack);
        }
        block_barrier();
        if (block_failed(launch)) break;
        for (uint32_t i = g.thread; i < tile_packs; i += g.threads) {
            const uint32_t pack = pack_of(tile, i);
            if (pack >= packs) continue;
            Reduction<T, Op> reduction;
            reduction.start(arrived[i], args);
            NO_UNROLL
            for (uint32_t rank = 1; rank < args.world; ++rank)
                reduction.add(arrived[(rank << args.tile_shift) + i], args);
            store_message(recv, pack, reduction.finish(args));
        }
        if (tile + g.blocks < tiles) block_barrier(); /* the scratch is used again */
    }
    end_launch(launch);
}

HIPCOMM_REDUCTION_KERNELS(all_reduce_one_shot)
