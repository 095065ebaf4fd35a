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
DEVICE void meet_owners_of_nothing(const Launch& whole_launch) {
    const Launch launch = new_phase(whole_launch);
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

/* The pack, of this launch's packs of a segment, that index i of a tile stands for. */
DEVICE uint32_t pack_of(const Launch& launch, uint32_t tile, uint32_t i) {
    const uint32_t shift = launch.args.tile_shift;
    return (tile << shift) + (i & ((1u << shift) - 1));
}

DEVICE void push_segments(const Launch& whole_launch) {
    const Launch launch = new_phase(whole_launch);
    const hipcommKernelArgs& args = launch.args;
    const Geometry& g = launch.geometry;
    for (uint32_t tile = g.block; tile << args.tile_shift < segment_args(launch).most_packs; tile += g.blocks) {
        for (uint32_t i = g.thread; i < args.world << args.tile_shift; i += g.threads) {
            const uint32_t owner = i >> args.tile_shift;
            const uint32_t pack = pack_of(launch, tile, i);
            const Message send = send_segment(launch, owner);
            if (owner == args.rank || pack >= packs_of_launch(launch, send.bytes)) continue;
            send_line(launch, owner, segment_line(launch, args.rank, pack),
                      load_rows(in_rows(launch, send), segment_args(launch).first_pack + pack));
        }
    }
}

/* Put everybody's packs of a tile into the block's scratch: [rank][pack of the tile]. */
DEVICE void receive_tile(const Launch& whole_launch, uint32_t tile) {
    const Launch launch = new_phase(whole_launch);
    const hipcommKernelArgs& args = launch.args;
    const Geometry& g = launch.geometry;
    const Message own = send_segment(launch, args.rank);
    for (uint32_t i = g.thread; i < args.world << args.tile_shift; i += g.threads) {
        const uint32_t sender = i >> args.tile_shift;
        const uint32_t pack = pack_of(launch, tile, i);
        if (pack >= packs_of_launch(launch, own.bytes)) continue;
        tile_memory(launch)[i] = sender == args.rank
                                     ? load_rows(in_rows(launch, own), segment_args(launch).first_pack + pack)
                                     : receive_line(launch, sender, segment_line(launch, sender, pack));
    }
}

template <class T, class Op>
DEVICE void reduce_tile(const Launch& whole_launch, uint32_t tile) {
    const Launch launch = new_phase(whole_launch);
    const hipcommKernelArgs& args = launch.args;
    const uint64_t bytes = send_segment(launch, args.rank).bytes;
    const Pack* const arrived = tile_memory(launch);
    for (uint32_t i = launch.geometry.thread; i < 1u << args.tile_shift; i += launch.geometry.threads) {
        const uint32_t pack = pack_of(launch, tile, i);
        if (pack >= packs_of_launch(launch, bytes)) continue;
        Reduction<T, Op> reduction;
        reduction.start(arrived[i], args);
        NO_UNROLL
        for (uint32_t rank = 1; rank < args.world; ++rank)
            reduction.add(arrived[(rank << args.tile_shift) + i], args);
        store_message(message(args.recv, bytes), segment_args(launch).first_pack + pack, reduction.finish(args));
    }
}

template <class T, class Op>
DEVICE void reduce_one_shot(const hipcommSegmentArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args.common, g);
    push_segments(launch);
    const uint32_t packs = packs_of_launch(launch, send_segment(launch, args.common.rank).bytes);
    for (uint32_t tile = g.block; tile << args.common.tile_shift < packs; tile += g.blocks) {
        receive_tile(launch, tile);
        block_barrier();
        if (block_failed(launch)) break;
        reduce_tile<T, Op>(launch, tile);
        block_barrier(); /* the scratch is used again */
    }
    meet_owners_of_nothing(launch);
    end_launch(launch);
}

HIPCOMM_REDUCTION_KERNELS_WITH(reduce_one_shot, hipcommSegmentArgs)
