/* All-reduce, flag-in-data two-shot: rank p owns shard p. Everybody sends shard p of its message to p
 * as lines; p reduces its shard and sends the result to everybody as lines. Two one-way latencies;
 * 2 x (n - 1)/n x bytes, and the flags, over the links.
 *
 * A shard is cut into tiles of 2^tile_shift lines; a block takes every blocks-th tile of all shards, so
 * the packs it writes at the end are those it has read at the beginning, and in-place calls are safe.
 * Line layout at the receiver: contributions [sender][line of the shard], then results likewise.
 */
#include "../launch/epoch.h"
#include "../numbers/reduction_kernels.h"
#include "line_packs.h"
#include "scratch_reduction.h"

template <class T, class Op, uint32_t kPacks = 1>
DEVICE void all_reduce_two_shot(const hipcommKernelArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args, g);
    if (is_behind_failure(launch)) return end_launch(launch);
    const Message send = message(args.send, args.bytes);
    const Message recv = message(args.recv, args.bytes);
    const uint32_t packs = uint32_t(packs_of(args.bytes));
    const uint32_t lines = lines_of<kPacks>(packs);
    const uint32_t shard = (lines + args.world - 1) / args.world; /* lines */
    const uint32_t tile_lines = 1u << args.tile_shift;
    const uint32_t tile_packs = tile_lines * kPacks;
    const uint32_t tiles = (shard + tile_lines - 1) >> args.tile_shift;
    const uint32_t results = args.world * shard; /* first line of the results */
    Pack* const arrived = tile_memory(launch);   /* [rank][pack of the tile] */
    Pack* const reduced = arrived + uint64_t(args.world) * tile_packs; /* [pack of the tile] */
    const auto load_own = [&](uint32_t line) {
        return load_packs<kPacks>(packs, line, [&](uint32_t pack) { return load_message(send, pack); });
    };
    const auto store_result = [&](uint32_t line, const Line<kPacks>& result) {
        store_packs<kPacks>(packs, line, result, [&](uint32_t pack, Pack p) { store_message(recv, pack, p); });
    };

    /* push contributions */
    for (uint32_t tile = g.block; tile < tiles; tile += g.blocks) {
        for (uint32_t i = g.thread; i < tile_lines * args.world; i += g.threads) {
            const uint32_t owner = i >> args.tile_shift;
            const uint32_t in_shard = (tile << args.tile_shift) + (i & (tile_lines - 1));
            const uint32_t line = owner * shard + in_shard;
            if (owner == args.rank || in_shard >= shard || line >= lines) continue;
            send_line(launch, owner, args.rank * shard + in_shard, load_own(line));
        }
    }

    /* wait, reduce the own shard, push the result */
    for (uint32_t tile = g.block; tile < tiles; tile += g.blocks) {
        for (uint32_t i = g.thread; i < tile_lines * args.world; i += g.threads) {
            const uint32_t sender = i >> args.tile_shift;
            const uint32_t in_shard = (tile << args.tile_shift) + (i & (tile_lines - 1));
            const uint32_t line = args.rank * shard + in_shard;
            if (in_shard >= shard || line >= lines) continue;
            store_scratch_line(
                arrived, i,
                sender == args.rank ? load_own(line)
                                    : receive_packs<kPacks>(launch, sender, sender * shard + in_shard));
        }
        block_barrier();
        if (block_failed(launch)) return end_launch(launch);
        for (uint32_t i = g.thread; i < tile_packs; i += g.threads)
            reduced[i] = reduce_scratch<T, Op>(args, arrived, tile_packs, i);
        block_barrier();
        for (uint32_t i = g.thread; i < tile_lines * args.world; i += g.threads) {
            const uint32_t peer = i >> args.tile_shift;
            const uint32_t in_tile = i & (tile_lines - 1);
            const uint32_t in_shard = (tile << args.tile_shift) + in_tile;
            const uint32_t line = args.rank * shard + in_shard;
            if (in_shard >= shard || line >= lines) continue;
            const Line<kPacks> result = load_scratch_line<kPacks>(reduced, in_tile);
            if (peer == args.rank)
                store_result(line, result);
            else
                send_line(launch, peer, results + line, result);
        }
    }

    /* collect the other shards */
    for (uint32_t tile = g.block; tile < tiles; tile += g.blocks) {
        for (uint32_t i = g.thread; i < tile_lines * args.world; i += g.threads) {
            const uint32_t owner = i >> args.tile_shift;
            const uint32_t in_shard = (tile << args.tile_shift) + (i & (tile_lines - 1));
            const uint32_t line = owner * shard + in_shard;
            if (owner == args.rank || in_shard >= shard || line >= lines) continue;
            const Line<kPacks> result = receive_packs<kPacks>(launch, owner, results + line);
            if (block_failed(launch)) break;
            store_result(line, result);
        }
    }
    end_launch(launch);
}

REDUCTION_KERNELS(all_reduce_two_shot, hipcommKernelArgs, HIPCOMM_MAX_THREADS)

#ifdef HAS_WIDE_LINES
template <class T, class Op>
DEVICE void all_reduce_two_shot_wide(const hipcommKernelArgs& args, const Geometry& g) {
    all_reduce_two_shot<T, Op, HIPCOMM_WIDE_LINE_PACKS>(args, g);
}

REDUCTION_KERNELS(all_reduce_two_shot_wide, hipcommKernelArgs, HIPCOMM_MAX_THREADS)
#endif
