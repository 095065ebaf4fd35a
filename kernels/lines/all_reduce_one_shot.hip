/* All-reduce, flag-in-data one-shot: every rank sends its whole message to every peer as lines, and
 * reduces all messages itself. One one-way latency; (n - 1) x bytes, and the flags, over the links.
 *
 * A thread takes a unit (lines/unit.h) of all ranks' messages. Line layout at the receiver: [sender][unit].
 * Messages of more units than there are threads have a kernel of their own, further down.
 */
#include "../launch/epoch.h"
#include "../numbers/reduction_kernels.h"
#include "line_packs.h"
#include "scratch_reduction.h"
#include "unit.h"

template <class T, class Op>
DEVICE void all_reduce_one_shot(const hipcommKernelArgs& args, const Geometry& g) {
    constexpr uint32_t kWords = kUnitWords<T>;
    const Message send = message(args.send, args.bytes);
    const Message recv = message(args.recv, args.bytes);
    const uint32_t units = units_of<kWords>(args.bytes);
    const UnitsOfThread mine = units_of_thread(g);

    /* Most launches have one unit per thread. Its load is sent out before the epoch is waited for. */
    Words<kWords> first{};
    const uint32_t first_unit = mine.unit(mine.first);
    if (first_unit < units) first = load_unit<kWords>(send, first_unit);
    const auto own = [&](uint32_t unit) { return unit == first_unit ? first : load_unit<kWords>(send, unit); };

    const Launch launch = begin_launch(args, g);
    if (is_behind_failure(launch)) return end_launch(launch);

    /* push */
    for (uint32_t begin = mine.first; begin < units; begin += mine.stride) {
        const uint32_t unit = mine.unit(begin);
        if (unit >= units) continue;
        const Words<kWords> contribution = own(unit);
        for_each_peer(launch, [&](uint32_t peer) {
            send_words(launch, peer, uint64_t(args.rank) * units + unit, contribution);
        });
    }

    /* wait and reduce */
    for (uint32_t begin = mine.first; begin < units; begin += mine.stride) {
        const uint32_t unit = mine.unit(begin);
        if (unit >= units) continue;
        const Words<kWords> result = reduce_units<T, Op>(
            launch, own(unit), [&](uint32_t rank) { return uint64_t(rank) * units + unit; });
        if (block_failed(launch)) break;
        store_unit(recv, unit, result);
    }
    end_launch(launch);
}

REDUCTION_KERNELS(all_reduce_one_shot, hipcommKernelArgs, HIPCOMM_MAX_UNIT_THREADS)

#ifdef HAS_WIDE_LINES
/* The same in wide lines, a thread for each line and rank. Work is cut into tiles of 2^tile_shift lines; a block
 * takes every blocks-th tile. Within a tile the threads are numbered by (peer, line): they send to, and
 * poll, different peers at once and meet in the block's scratch. Line layout at the receiver: [sender][line]. */
template <class T, class Op>
DEVICE void all_reduce_one_shot_wide(const hipcommKernelArgs& args, const Geometry& g) {
    constexpr uint32_t kPacks = HIPCOMM_WIDE_LINE_PACKS;
    const Launch launch = begin_launch(args, g);
    if (is_behind_failure(launch)) return end_launch(launch);
    const Message send = message(args.send, args.bytes);
    const Message recv = message(args.recv, args.bytes);
    const uint32_t packs = uint32_t(packs_of(args.bytes));
    const uint32_t lines = lines_of<kPacks>(packs);
    const uint32_t tile_lines = 1u << args.tile_shift, tile_packs = tile_lines * kPacks;
    const uint32_t tiles = (lines + tile_lines - 1) >> args.tile_shift;
    Pack* const arrived = tile_memory(launch); /* [rank][pack of the tile] */
    const auto line_index = [&](uint32_t tile, uint32_t i) {
        return (tile << args.tile_shift) + (i & (tile_lines - 1));
    };
    const auto load_own = [&](uint32_t line) {
        return load_packs<kPacks>(packs, line, [&](uint32_t pack) { return load_message(send, pack); });
    };

    /* push */
    for (uint32_t tile = g.block; tile < tiles; tile += g.blocks) {
        for (uint32_t i = g.thread; i < tile_lines * args.world; i += g.threads) {
            const uint32_t peer = i >> args.tile_shift;
            const uint32_t line = line_index(tile, i);
            if (peer == args.rank || line >= lines) continue;
            send_line(launch, peer, uint64_t(args.rank) * lines + line, load_own(line));
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
                peer == args.rank ? load_own(line)
                                  : receive_packs<kPacks>(launch, peer, uint64_t(peer) * lines + line));
        }
        block_barrier();
        if (block_failed(launch)) break;
        for (uint32_t i = g.thread; i < tile_packs; i += g.threads) {
            const uint32_t pack = tile * tile_packs + i;
            if (pack >= packs) continue;
            store_message(recv, pack, reduce_scratch<T, Op>(args, arrived, tile_packs, i));
        }
        if (tile + g.blocks < tiles) block_barrier(); /* the scratch is used again */
    }
    end_launch(launch);
}

REDUCTION_KERNELS(all_reduce_one_shot_wide, hipcommKernelArgs, HIPCOMM_MAX_THREADS)
#endif
