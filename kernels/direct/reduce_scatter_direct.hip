/* Reduce-scatter, direct: every rank reads its part from all inputs and writes the reduction into its own
 * result, between two barriers. The inputs are registered memory; nothing is copied in. Bytes over the links:
 * (n - 1)/n per byte of the inputs, in one direction.
 *
 * A part is read by one rank alone, and so may be that rank's result (in place).
 */
#include "../data/segments.h"
#include "../launch/epoch.h"
#include "../numbers/reduce_run.h"
#include "../numbers/reduction_kernels.h"
#include "side_by_side.h"

/* What `rank` sends to this one. */
DEVICE Message contribution(const Launch& launch, uint32_t rank) {
    const hipcommSegment& own = segment_args(launch).segments[launch.args.rank];
    return message(rank_buffers(launch)->send(rank) + own.send_offset, own.send_bytes);
}

/* With one thread: row by row, in runs of elements. */
template <class T, class Op>
DEVICE void reduce_rows(const Launch& launch) {
    const Geometry& g = launch.geometry;
    const Rows own = in_rows(launch, contribution(launch, launch.args.rank));
    char* const result = static_cast<char*>(launch.args.recv);
    for (uint64_t row = g.block; row * own.row_bytes < own.all.bytes; row += g.blocks)
        reduce_run<T, Op>(
            launch.args, own.row_bytes, {launch.args.rank, 1},
            [&](uint32_t rank) -> const char* { return contribution(launch, rank).base + row * own.row_stride; },
            [&](uint32_t) { return result + row * own.row_bytes; });
}

/* Packs that may be moved whole on all ranks, from the first on. */
DEVICE uint32_t whole_everywhere(const Launch& launch) {
    const uint64_t bytes = segment_args(launch).segments[launch.args.rank].send_bytes;
    if (segment_args(launch).row_bytes < bytes) return 0; /* they lie in rows */
    uint32_t whole = whole_packs(message(launch.args.recv, bytes), 0, uint32_t(-1));
    NO_UNROLL
    for (uint32_t rank = 0; rank < launch.args.world; ++rank)
        whole = whole_packs(contribution(launch, rank), 0, whole);
    return whole;
}

template <class T, class Op>
DEVICE void reduce_whole_packs(const Launch& whole_launch, uint32_t whole) {
    const Launch launch = new_phase(whole_launch);
    char* const result = static_cast<char*>(launch.args.recv);
    const uint64_t offset = segment_args(launch).segments[launch.args.rank].send_offset;
    const RankBuffers* const buffers = rank_buffers(launch);
    reduce_side_by_side<T, Op, kRanksInFlight>(
        launch, 0, whole, {launch.args.rank, 1},
        [=](uint32_t rank, uint64_t i) {
            return load_staged(buffers->send(rank) + offset + i * HIPCOMM_PACK_BYTES);
        },
        [=](uint32_t, uint64_t i, Pack pack) { store_pack(result + i * HIPCOMM_PACK_BYTES, pack); });
}

template <class T, class Op>
DEVICE void reduce_other_packs(const Launch& whole_launch, uint32_t whole) {
    const Launch launch = new_phase(whole_launch);
    const uint64_t bytes = segment_args(launch).segments[launch.args.rank].send_bytes;
    const Message result = message(launch.args.recv, bytes);
    reduce_side_by_side<T, Op, 1>(
        launch, whole, packs_of(bytes), {launch.args.rank, 1},
        [&](uint32_t rank, uint64_t i) { return load_rows(in_rows(launch, contribution(launch, rank)), i); },
        [=](uint32_t, uint64_t i, Pack pack) { store_message(result, i, pack); });
}

template <class T, class Op>
DEVICE void reduce_scatter_direct(const hipcommSegmentArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args.common, g);
    if (!enter_direct(launch)) return end_launch(launch);
    if constexpr (kOneThread && kChosenByType<Op>) {
        reduce_rows<T, Op>(launch);
    } else {
        const uint32_t whole = whole_everywhere(launch);
        reduce_whole_packs<T, Op>(launch, whole);
        reduce_other_packs<T, Op>(launch, whole);
    }
    leave_direct(launch);
    end_launch(launch);
}

REDUCTION_KERNELS(reduce_scatter_direct, hipcommSegmentArgs, HIPCOMM_MAX_THREADS)
