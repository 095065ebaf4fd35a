/* Reduce-scatter and reduce, flag-in-data: everybody sends the owner of a segment what it has of it, as
 * lines; the owner reduces. One one-way latency. For reduce_scatter rank p owns segment p; for reduce the
 * root owns the only one. (n - 1)/n x bytes, and the flags, over the links of each rank, or all of it over the root's.
 *
 * A segment is cut into tiles of 2^tile_shift lines; a block takes every blocks-th tile. Line layout at
 * the owner: [sender][line]. An owner of nothing hears from its peers by a signal: no rank may leave an
 * epoch before it has heard from all (hipcomm/abi/slabs.h).
 */
#include "../data/segments.h"
#include "../launch/epoch.h"
#include "../numbers/reduction_kernels.h"
#include "line_packs.h"
#include "scratch_reduction.h"

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

/* The line, of this launch's lines of a segment, that index i of a tile means. */
DEVICE uint32_t line_index(const Launch& launch, uint32_t tile, uint32_t i) {
    const uint32_t shift = launch.args.tile_shift;
    return (tile << shift) + (i & ((1u << shift) - 1));
}

/* Line `line` of the `packs` packs that this launch moves of a segment. */
template <uint32_t kPacks>
DEVICE Line<kPacks> load_segment_line(const Launch& launch, const Message& segment, uint32_t packs, uint32_t line) {
    return load_packs<kPacks>(packs, line, [&](uint32_t pack) {
        return load_rows(in_rows(launch, segment), segment_args(launch).first_pack + pack);
    });
}

template <uint32_t kPacks>
DEVICE void push_segments(const Launch& whole_launch) {
    const Launch launch = new_phase(whole_launch);
    const hipcommKernelArgs& args = launch.args;
    const Geometry& g = launch.geometry;
    const uint32_t most_lines = lines_of<kPacks>(segment_args(launch).most_packs);
    for (uint32_t tile = g.block; tile << args.tile_shift < most_lines; tile += g.blocks) {
        for (uint32_t i = g.thread; i < args.world << args.tile_shift; i += g.threads) {
            const uint32_t owner = i >> args.tile_shift;
            const uint32_t line = line_index(launch, tile, i);
            const Message send = send_segment(launch, owner);
            const uint32_t packs = packs_of_launch(launch, send.bytes);
            if (owner == args.rank || line >= lines_of<kPacks>(packs)) continue;
            send_line(launch, owner, segment_line<kPacks>(launch, args.rank, line),
                      load_segment_line<kPacks>(launch, send, packs, line));
        }
    }
}

/* Put everybody's lines of a tile into the block's scratch: [rank][pack of the tile]. */
template <uint32_t kPacks>
DEVICE void receive_tile(const Launch& whole_launch, uint32_t tile) {
    const Launch launch = new_phase(whole_launch);
    const hipcommKernelArgs& args = launch.args;
    const Geometry& g = launch.geometry;
    const Message own = send_segment(launch, args.rank);
    const uint32_t packs = packs_of_launch(launch, own.bytes);
    for (uint32_t i = g.thread; i < args.world << args.tile_shift; i += g.threads) {
        const uint32_t sender = i >> args.tile_shift;
        const uint32_t line = line_index(launch, tile, i);
        if (line >= lines_of<kPacks>(packs)) continue;
        const Line<kPacks> arrived =
            sender == args.rank ? load_segment_line<kPacks>(launch, own, packs, line)
                                : receive_packs<kPacks>(launch, sender, segment_line<kPacks>(launch, sender, line));
        store_scratch_line(tile_memory(launch), i, arrived);
    }
}

template <class T, class Op, uint32_t kPacks>
DEVICE void reduce_tile(const Launch& whole_launch, uint32_t tile) {
    const Launch launch = new_phase(whole_launch);
    const hipcommKernelArgs& args = launch.args;
    const uint64_t bytes = send_segment(launch, args.rank).bytes;
    const Pack* const arrived = tile_memory(launch);
    const uint32_t tile_packs = kPacks << args.tile_shift;
    for (uint32_t i = launch.geometry.thread; i < tile_packs; i += launch.geometry.threads) {
        const uint32_t pack = tile * tile_packs + i;
        if (pack >= packs_of_launch(launch, bytes)) continue;
        store_message(message(args.recv, bytes), segment_args(launch).first_pack + pack,
                      reduce_scratch<T, Op>(args, arrived, tile_packs, i));
    }
}

template <class T, class Op, uint32_t kPacks = 1>
DEVICE void reduce_one_shot(const hipcommSegmentArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args.common, g);
    if (is_behind_failure(launch)) return end_launch(launch);
    push_segments<kPacks>(launch);
    const uint32_t packs = packs_of_launch(launch, send_segment(launch, args.common.rank).bytes);
    for (uint32_t tile = g.block; tile << args.common.tile_shift < lines_of<kPacks>(packs); tile += g.blocks) {
        receive_tile<kPacks>(launch, tile);
        block_barrier();
        if (block_failed(launch)) break;
        reduce_tile<T, Op, kPacks>(launch, tile);
        block_barrier(); /* the scratch is used again */
    }
    meet_owners_of_nothing(launch);
    end_launch(launch);
}

REDUCTION_KERNELS(reduce_one_shot, hipcommSegmentArgs, HIPCOMM_MAX_THREADS)

#ifdef HAS_WIDE_LINES
template <class T, class Op>
DEVICE void reduce_one_shot_wide(const hipcommSegmentArgs& args, const Geometry& g) {
    reduce_one_shot<T, Op, HIPCOMM_WIDE_LINE_PACKS>(args, g);
}

REDUCTION_KERNELS(reduce_one_shot_wide, hipcommSegmentArgs, HIPCOMM_MAX_THREADS)
#endif
