/* Reduce-scatter and reduce, flag-in-data: everybody sends the owner of a segment what it has of it, as
 * lines; the owner reduces. One one-way latency. For reduce_scatter rank p owns segment p; for reduce the
 * root owns the only one. (n - 1)/n x 2 x bytes over the links of each rank, or all of it over the root's.
 *
 * A segment is cut into tiles of 2^tile_shift packs; a block takes every blocks-th tile. Line layout at
 * the owner: [sender][pack]. An owner of nothing hears from its peers by a signal: no rank may leave an
 * epoch before it has heard from all (kernels/abi.h).
 */
#include "common/epoch.h"
#include "common/reduce.h"
#include "common/segments.h"

enum Phase : uint32_t { kCame };

/* Tell owners of nothing that this rank has come; an owner of nothing waits for all. */
DEVICE void meet_owners_of_nothing(const Launch& launch) {
    const hipcommSegment* segments = segment_args(launch).segments;
    const Geometry& g = launch.geometry;
    if (g.block != 0) return;
    for (uint32_t peer = g.thread; peer < launch.args.world; peer += g.threads)
        if (peer != launch.args.rank && packs_of_launch(launch, segments[peer].send_bytes) == 0)
            signal_one(launch, peer, kCame, 1);
    if (packs_of_launch(launch, segments[launch.args.rank].send_bytes) != 0) return;
    for (uint32_t peer = g.thread; peer < launch.args.world; peer += g.threads)
        if (peer != launch.args.rank) wait_for_signal(launch, peer, kCame, 1);
}

template <class T, class Op>
DEVICE void reduce_one_shot(const hipcommSegmentArgs& whole_args, const Geometry& g) {
    const hipcommKernelArgs& args = whole_args.common;
    const Launch launch = begin_launch(args, g);
    const uint32_t tile_packs = 1u << args.tile_shift;
    const auto pack_of = [&](uint32_t tile, uint32_t i) {
        return (tile << args.tile_shift) + (i & (tile_packs - 1));
    };

    /* push */
    for (uint32_t tile = g.block; tile << args.tile_shift < whole_args.most_packs; tile += g.blocks) {
        for (uint32_t i = g.thread; i < tile_packs * args.world; i += g.threads) {
            const uint32_t owner = i >> args.tile_shift;
            const uint32_t pack = pack_of(tile, i);
            const Message send = send_segment(launch, owner);
            if (owner == args.rank || pack >= packs_of_launch(launch, send.bytes)) continue;
            send_line(launch, owner, segment_line(launch, args.rank, pack),
                      load_rows(in_rows(launch, send), whole_args.first_pack + pack));
        }
    }

    /* wait and reduce */
    const Message own = send_segment(launch, args.rank);
    const Rows own_rows = in_rows(launch, own);
    const Message recv = message(args.recv, own.bytes);
    const uint32_t packs = packs_of_launch(launch, own.bytes);
    Pack* const arrived = tile_memory(launch); /* [rank][pack of the tile] */
    for (uint32_t tile = g.block; tile << args.tile_shift < packs; tile += g.blocks) {
        for (uint32_t i = g.thread; i < tile_packs * args.world; i += g.threads) {
            const uint32_t sender = i >> args.tile_shift;
            const uint32_t pack = pack_of(tile, i);
            if (pack >= packs) continue;
            arrived[i] = sender == args.rank
                             ? load_rows(own_rows, whole_args.first_pack + pack)
                             : receive_line(launch, sender, segment_line(launch, sender, pack));
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
            store_message(recv, whole_args.first_pack + pack, reduction.finish(args));
        }
        block_barrier(); /* the scratch is used again */
    }
    meet_owners_of_nothing(launch);
    end_launch(launch);
}

HIPCOMM_REDUCTION_KERNELS_WITH(reduce_one_shot, hipcommSegmentArgs)
