/* All-reduce, flag-in-data one-shot: every rank sends its whole message to every peer as lines, and
 * reduces all messages itself. One one-way latency; (n - 1) x bytes, and the flags, over the links.
 *
 * Work is cut into tiles of 2^tile_shift lines; a block takes every blocks-th tile. Within a tile the
 * threads stand side by side for (peer, line): they send to, and poll, different peers at once and meet
 * in the block's scratch. Line layout at the receiver: [sender][line].
 */
#include "common/line_packs.h"
#include "common/epoch.h"
#include "common/reduce.h"

template <class T, class Op, uint32_t kPacks = 1>
DEVICE void all_reduce_one_shot(const hipcommKernelArgs& args, const Geometry& g) {
    const Message send = message(args.send, args.bytes);
    const Message recv = message(args.recv, args.bytes);
    const uint32_t packs = uint32_t(packs_of(args.bytes));
    const uint32_t lines = lines_of<kPacks>(packs);
    const uint32_t tile_lines = 1u << args.tile_shift;
    const uint32_t tiles = (lines + tile_lines - 1) >> args.tile_shift;
    const auto line_index = [&](uint32_t tile, uint32_t i) {
        return (tile << args.tile_shift) + (i & (tile_lines - 1));
    };
    const auto load_own = [&](uint32_t line) {
        return load_packs<kPacks>(packs, line, [&](uint32_t pack) { return load_message(send, pack); });
    };

    /* Most launches have one item per thread. Its load is sent out before the epoch is waited for. */
    const uint32_t first_line = line_index(g.block, g.thread);
    Line<kPacks> first{};
    if (first_line < lines && g.thread < tile_lines * args.world) first = load_own(first_line);
    const auto load = [&](uint32_t tile, uint32_t i) {
        return tile == g.block && i == g.thread ? first : load_own(line_index(tile, i));
    };

    const Launch launch = begin_launch(args, g);
    Pack* const arrived = tile_memory(launch); /* [rank][pack of the tile] */

    /* push */
    for (uint32_t tile = g.block; tile < tiles; tile += g.blocks) {
        for (uint32_t i = g.thread; i < tile_lines * args.world; i += g.threads) {
            const uint32_t peer = i >> args.tile_shift;
            const uint32_t line = line_index(tile, i);
            if (peer == args.rank || line >= lines) continue;
            send_line(launch, peer, uint64_t(args.rank) * lines + line, load(tile, i));
        }
    }

    /* wait and reduce */
    for (uint32_t tile = g.block; tile < tiles; tile += g.blocks) {
        for (uint32_t i = g.thread; i < tile_lines * args.world; i += g.threads) {
            const uint32_t peer = i >> args.tile_shift;
            const uint32_t line = line_index(tile, i);
            if (line >= lines) continue;
            store_scratch_line(
                arrived, i,
                peer == args.rank ? load(tile, i)
                                  : receive_packs<kPacks>(launch, peer, uint64_t(peer) * lines + line));
        }
        block_barrier();
        if (block_failed(launch)) break;
        const uint32_t tile_packs = tile_lines * kPacks;
        for (uint32_t i = g.thread; i < tile_packs; i += g.threads) {
            const uint32_t pack = tile * tile_packs + i;
            if (pack >= packs) continue;
            Reduction<T, Op> reduction;
            reduction.start(arrived[i], args);
            NO_UNROLL
            for (uint32_t rank = 1; rank < args.world; ++rank)
                reduction.add(arrived[rank * tile_packs + i], args);
            store_message(recv, pack, reduction.finish(args));
        }
        if (tile + g.blocks < tiles) block_barrier(); /* the scratch is used again */
    }
    end_launch(launch);
}

HIPCOMM_REDUCTION_KERNELS(all_reduce_one_shot)

#ifdef HAS_WIDE_LINES
template <class T, class Op>
DEVICE void all_reduce_one_shot_wide(const hipcommKernelArgs& args, const Geometry& g) {
    all_reduce_one_shot<T, Op, HIPCOMM_WIDE_LINE_PACKS>(args, g);
}

HIPCOMM_REDUCTION_KERNELS(all_reduce_one_shot_wide)
#endif
