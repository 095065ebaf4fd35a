/* Exchange, direct: every rank writes its segment for each rank into that rank's result, between two
 * barriers. This is all_to_all, all_gather with unequal counts, and all_gather along any dimension. The
 * results are registered memory; nothing is copied out.
 *
 * Each rank tells each peer where in its result that peer's segment goes, so a sender need not know how
 * results are laid out.
 */
#include "../data/segments.h"
#include "../launch/epoch.h"
#include "put.h"

/* All threads: copy this block's share of a message to rows. */
DEVICE void put_rows(const Launch& launch, const Rows& to, const Message& from) {
    const Geometry& g = launch.geometry;
    if constexpr (kOneThread) {
        for (uint64_t row = g.block; row * to.row_bytes < from.bytes; row += g.blocks)
            __builtin_memcpy(to.all.base + row * to.row_stride, from.base + row * to.row_bytes, to.row_bytes);
    } else {
        const PackRange share = part_of_range({0, packs_of(from.bytes)}, g.block, g.blocks);
        for (uint64_t i = share.begin + g.thread; i < share.end; i += g.threads)
            store_rows(to, i, load_message(from, i));
    }
}

DEVICE void put_segment(const Launch& whole_launch, uint32_t peer) {
    const Launch launch = new_phase(whole_launch);
    const Message from = send_segment(launch, peer);
    char* const base = peer == launch.args.rank ? recv_segment(launch, peer).base : rank_buffers(launch)->recv(peer);
    const Rows to = in_rows(launch, message(base, from.bytes));
    if (!to.one_row) return put_rows(launch, to, from);
    if (base != from.base) put_share(launch, to.all, from); /* else in place */
}

DEVICE void exchange_direct(const hipcommSegmentArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args.common, g);
    const auto place_of_peer = [&](uint32_t peer) { return segment_args(launch).segments[peer].recv_offset; };
    if (!enter_direct(launch, place_of_peer)) return end_launch(launch);
    /* every rank begins with another peer, so that all links are busy */
    NO_UNROLL
    for (uint32_t i = 1; i <= launch.args.world; ++i)
        put_segment(launch, (launch.args.rank + i) % launch.args.world);
    leave_direct(launch);
    end_launch(launch);
}

KERNEL(hipcomm_exchange_direct, exchange_direct, hipcommSegmentArgs, HIPCOMM_MAX_THREADS)
