/* All-gather of rows that have owners (fused/owners.h), through the staging slab, for any number of rows: in the caller's
 * dtype, as codes with their scales, or both. What scales lie in on either side is not a concatenation, so the rows'
 * scales travel by groups (gather.h).
 *
 * Block b takes every blocks-th row of each owner, alone with block b of the other ranks. Staging memory of a launch:
 * records [owner][row].
 */
#include "../launch/epoch.h"
#include "gather.h"

enum Phase : uint32_t { kGathered };

DEVICE const hipcommGatherArgs& new_sweep(const hipcommGatherArgs& args) {
    return reinterpret_cast<const hipcommGatherArgs&>(reload_args(args.common));
}

DEVICE GatheredRow row_of_part(const hipcommGatherArgs& args, uint64_t token) {
    const Message values = message(args.part + token * args.part_stride, args.part ? args.row_bytes : 0);
    return gathered_row(values, message(nullptr, 0), args.quantised_part, token, uint32_t(args.hidden));
}
DEVICE GatheredRow row_of_whole(const hipcommGatherArgs& args, uint64_t token) {
    const Message values = message(args.whole + token * args.whole_stride, args.whole ? args.row_bytes : 0);
    return gathered_row(values, message(nullptr, 0), args.quantised, token, uint32_t(args.hidden));
}

/* To the peers, and to their places here. */
DEVICE void send_rows(const Launch& launch, const hipcommGatherArgs& args) {
    const Geometry& g = launch.geometry;
    const Owners owners = owners_of(args);
    const uint32_t self = args.common.rank;
    NO_UNROLL
    for (uint64_t row = g.block; row < args.count && args.first + row < owners.rows(self); row += g.blocks) {
        const uint64_t token = owners.first(self) + args.first + row;
        send_row(launch, row_of_part(args, token), [&](uint32_t reader) IN_LINE {
            return record(launch, 0, args.gathered_bytes, args.count, reader, self, row);
        });
        const GatheredRow from = row_of_part(args, token), to = row_of_whole(args, token);
        copy_message(g, to.values, from.values, 0, uint32_t(packs_of(to.values.bytes)));
        copy_message(g, to.codes, from.codes, 0, uint32_t(packs_of(to.codes.bytes)));
        NO_UNROLL
        for (uint32_t i = g.thread; i < packs_of_scales(to); i += g.threads) store_scales(to, i, load_scales(from, i));
        if (to.groups) pad_scales(to.quantised, uint32_t(args.hidden), to.m, g.thread, g.threads);
    }
}

DEVICE void receive_rows(const Launch& launch, const hipcommGatherArgs& args) {
    const uint32_t self = args.common.rank;
    for_each_row(args, launch.geometry, self, [&](uint32_t owner, uint64_t row, uint64_t token) IN_LINE {
        if (owner == self) return;
        receive_row(launch, row_of_whole(args, token),
                    record(launch, 0, args.gathered_bytes, args.count, self, owner, row), uint32_t(args.hidden));
    });
}

DEVICE void all_gather_tokens(const hipcommGatherArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args.common, g);
    if (is_behind_failure(launch)) return end_launch(launch);
    send_rows(new_phase(launch), new_sweep(args));
    signal_peers(launch, kGathered, 1);
    if (wait_for_peers(launch, kGathered, 1)) receive_rows(new_phase(launch), new_sweep(args));
    end_launch(launch);
}

KERNEL(hipcomm_all_gather_tokens, all_gather_tokens, hipcommGatherArgs, HIPCOMM_MAX_UNIT_THREADS)
