/* All-reduce, flag-in-data two-shot: rank p owns shard p. Everybody sends shard p of its message to p
 * as lines; p reduces its shard and sends the result to everybody as lines. Two one-way latencies;
 * 2 x (n - 1)/n x 2 x bytes over the links.
 *
 * A shard is cut into tiles of 2^tile_shift packs; a block takes every blocks-th tile of all shards, so
 * the packs it writes at the end are those it has read at the beginning, and in-place calls are safe.
 * Line layout at the receiver: contributions [sender][pack of the shard], then results likewise.
 */
#include "common/epoch.h"
#include "common/pack.h"
#include "common/reduce.h"

template <class T, class Op>
DEVICE void all_reduce_two_shot(const hipcommKernelArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args, g);
    const Message send = message(args.send, args.bytes);
    const Message recv = message(args.recv, args.bytes);
    const uint32_t packs = uint32_t(packs_of(args.bytes));
    const uint32_t shard_packs = (packs + args.world - 1) / args.world;
    const uint32_t tile_packs = 1u << args.tile_shift;
    const uint32_t tiles = (shard_packs + tile_packs - 1) >> args.tile_shift;
    const uint32_t results = args.world * shard_packs; /* first line of the results */
    Pack* const arrived = tile_memory(launch);         /* [rank][pack of the tile] */
    Pack* const reduced = arrived + (uint64_t(args.world) << args.tile_shift); /* [pack of the tile] */

    /* push contributions */
    for (uint32_t tile = g.block; tile < tiles; tile += g.blocks) {
        for (uint32_t i = g.thread; i < tile_packs * args.world; i += g.threads) {
            const uint32_t owner = i >> args.tile_shift;
            const uint32_t in_shard = (tile << args.tile_shift) + (i & (tile_packs - 1));
            const uint32_t pack = owner * shard_packs + in_shard;
            if (owner == args.rank || in_shard >= shard_packs || pack >= packs) continue;
            send_line(launch, owner, args.rank * shard_packs + in_shard, load_message(send, pack));
        }
    }

    /* wait, reduce the own shard, push the result */
    for (uint32_t tile = g.block; tile < tiles; tile += g.blocks) {
        for (uint32_t i = g.thread; i < tile_packs * args.world; i += g.threads) {
            const uint32_t sender = i >> args.tile_shift;
            const uint32_t in_shard = (tile << args.tile_shift) + (i & (tile_packs - 1));
            const uint32_t pack = args.rank * shard_packs + in_shard;
            if (in_shard >= shard_packs || pack >= packs) continue;
            arrived[i] = sender == args.rank ? load_message(send, pack)
                                             : receive_line(launch, sender, sender * shard_packs + in_shard);
        }
        block_barrier();
        if (block_failed(launch)) return end_launch(launch);
        for (uint32_t i = g.thread; i < tile_packs; i += g.threads) {
            Reduction<T, Op> reduction;
            reduction.start(arrived[i], args);
            NO_UNROLL
            for (uint32_t rank = 1; rank < args.world; ++rank)
                reduction.add(arrived[(rank << args.tile_shift) + i], args);
            reduced[i] = reduction.finish(args);
        }
        block_barrier();
        for (uint32_t i = g.thread; i < tile_packs * args.world; i += g.threads) {
            const uint32_t peer = i >> args.tile_shift;
            const uint32_t in_tile = i & (tile_packs - 1);
            const uint32_t in_shard = (tile << args.tile_shift) + in_tile;
            const uint32_t pack = args.rank * shard_packs + in_shard;
            if (in_shard >= shard_packs || pack >= packs) continue;
            if (peer == args.rank)
                store_message(recv, pack, reduced[in_tile]);
            else
                send_line(launch, peer, results + args.rank * shard_packs + in_shard, reduced[in_tile]);
        }
    }

    /* collect the other shards */
    for (uint32_t tile = g.block; tile < tiles; tile += g.blocks) {
        for (uint32_t i = g.thread; i < tile_packs * args.world; i += g.threads) {
            const uint32_t owner = i >> args.tile_shift;
            const uint32_t in_shard = (tile << args.tile_shift) + (i & (tile_packs - 1));
            const uint32_t pack = owner * shard_packs + in_shard;
            if (owner == args.rank || in_shard >= shard_packs || pack >= packs) continue;
            const Pack result = receive_line(launch, owner, results + owner * shard_packs + in_shard);
            if (block_failed(launch)) break;
            store_message(recv, pack, result);
        }
    }
    end_launch(launch);
}

HIPCOMM_REDUCTION_KERNELS(all_reduce_two_shot)
