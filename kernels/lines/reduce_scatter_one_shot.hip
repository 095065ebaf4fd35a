/* Reduce-scatter, flag-in-data one-shot: everybody sends each owner its contribution to that owner's part, as lines;
 * the owner reduces. One one-way latency; (n - 1)/n x bytes, and the flags, over the links.
 *
 * A thread takes a unit (lines/unit.h) of all parts. Line layout at the owner: [sender][unit]. Larger messages
 * go through reduce_one_shot.hip.
 */
#include "../data/segments.h"
#include "../launch/epoch.h"
#include "../numbers/reduction_kernels.h"
#include "unit.h"

/* What this launch moves of the part of `owner`, in this rank's send buffer. */
DEVICE Message part_of(const hipcommSegmentArgs& args, uint32_t owner) {
    const uint64_t begin = args.first_pack * HIPCOMM_PACK_BYTES, most = args.most_packs * HIPCOMM_PACK_BYTES;
    const uint64_t left = args.common.bytes - begin;
    return message(static_cast<const char*>(args.common.send) + owner * args.common.bytes + begin,
                   left < most ? left : most);
}

/* A unit of a part that lies in rows. */
template <uint32_t kWords>
DEVICE Words<kWords> load_in_rows(const hipcommSegmentArgs& args, uint32_t owner, uint32_t unit) {
    const char* const part = static_cast<const char*>(args.common.send) + owner * args.row_bytes;
    return load_from_rows<kWords>(rows(part, args.common.bytes, args.row_bytes, args.row_stride),
                                  args.first_pack * HIPCOMM_PACK_BYTES + uint64_t(unit) * kWords * 4);
}

DEVICE bool in_rows(const hipcommSegmentArgs& args) { return UNLIKELY(args.row_bytes < args.common.bytes); }

/* The i-th owner after this rank. */
DEVICE uint32_t owner_behind(const hipcommSegmentArgs& args, uint32_t i) {
    return rank_behind(args.common.rank, args.common.world, i);
}

/* A unit of the parts of kRanksInFlight owners, from the i-th rank after this one on, loaded together. */
template <uint32_t kWords>
DEVICE void load_for_owners(const hipcommSegmentArgs& args, uint32_t i, uint32_t unit,
                            Words<kWords> (&loaded)[kRanksInFlight]) {
    UNROLL(4)
    for (uint32_t k = 0; k < kRanksInFlight; ++k)
        if (i + k < args.common.world)
            loaded[k] = load_unit<kWords>(part_of(args, owner_behind(args, i + k)), unit);
}

/* `first`: the first kRanksInFlight owners' first units, if in_rows() is not. */
template <uint32_t kWords>
DEVICE void push_units(const Launch& whole_launch, uint32_t units, Words<kWords> (&first)[kRanksInFlight]) {
    const Launch launch = new_phase(whole_launch);
    const hipcommSegmentArgs& args = segment_args(launch);
    const UnitsOfThread mine = units_of_thread(launch.geometry);
    const auto send = [&](uint32_t i, uint32_t unit, const Words<kWords>& words) {
        send_words(launch, owner_behind(args, i), uint64_t(args.common.rank) * units + unit, words);
    };
    for (uint32_t begin = mine.first; begin < units; begin += mine.stride) {
        const uint32_t unit = mine.unit(begin);
        if (unit >= units) continue;
        if (in_rows(args)) {
            NO_UNROLL
            for (uint32_t i = 1; i < args.common.world; ++i)
                send(i, unit, load_in_rows<kWords>(args, owner_behind(args, i), unit));
            continue;
        }
        NO_UNROLL
        for (uint32_t i = 1; i < args.common.world; i += kRanksInFlight) {
            if (i > 1 || begin > mine.first) load_for_owners(args, i, unit, first);
            UNROLL(4)
            for (uint32_t k = 0; k < kRanksInFlight; ++k)
                if (i + k < args.common.world) send(i + k, unit, first[k]);
        }
    }
}

template <class T, class Op>
DEVICE void reduce_own_part(const Launch& whole_launch, uint32_t units) {
    constexpr uint32_t kWords = kUnitWords<T>;
    const Launch launch = new_phase(whole_launch);
    const hipcommSegmentArgs& args = segment_args(launch);
    const uint32_t rank = args.common.rank;
    const UnitsOfThread mine = units_of_thread(launch.geometry);
    const Message part = part_of(args, rank);
    const Message recv =
        message(static_cast<char*>(args.common.recv) + args.first_pack * HIPCOMM_PACK_BYTES, part.bytes);
    for (uint32_t begin = mine.first; begin < units; begin += mine.stride) {
        const uint32_t unit = mine.unit(begin);
        if (unit >= units) continue;
        const Words<kWords> own =
            in_rows(args) ? load_in_rows<kWords>(args, rank, unit) : load_unit<kWords>(part, unit);
        const Words<kWords> result = reduce_units<T, Op>(
            launch, own, [&](uint32_t sender) { return uint64_t(sender) * units + unit; });
        if (block_failed(launch)) break;
        store_unit(recv, unit, result);
    }
}

template <class T, class Op>
DEVICE void reduce_scatter_one_shot(const hipcommSegmentArgs& args, const Geometry& g) {
    constexpr uint32_t kWords = kUnitWords<T>;
    const uint32_t units = units_of<kWords>(part_of(args, args.common.rank).bytes);

    /* Most launches have one unit per thread. Its loads are sent out before the epoch is waited for. */
    const uint32_t unit = units_of_thread(g).unit(units_of_thread(g).first);
    Words<kWords> first[kRanksInFlight] = {};
    if (unit < units && !in_rows(args)) load_for_owners(args, 1, unit, first);

    const Launch launch = begin_launch(args.common, g);
    if (is_behind_failure(launch)) return end_launch(launch);
    push_units(launch, units, first);
    reduce_own_part<T, Op>(launch, units);
    end_launch(launch);
}

REDUCTION_KERNELS(reduce_scatter_one_shot, hipcommSegmentArgs, HIPCOMM_MAX_UNIT_THREADS)
