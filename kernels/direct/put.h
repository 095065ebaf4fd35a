/* Direct kernels that move: writing a message into another rank's memory. Writing over the links is faster
 * than reading. */
#pragma once

#include "rank_buffers.h"
#include "../data/staging.h"

/* Packs begin .. end - 1 of a message. */
struct PackRange {
    uint64_t begin;
    uint64_t end;
};

/* Part `part` of `parts` parts of a range, as equal as whole packs allow. */
DEVICE PackRange part_of_range(const PackRange& range, uint32_t part, uint32_t parts) {
    const uint64_t packs = range.end - range.begin;
    const uint64_t share = (packs + parts - 1) / parts;
    const uint64_t begin = part * share < packs ? part * share : packs;
    const uint64_t left = packs - begin;
    return {range.begin + begin, range.begin + begin + (left < share ? left : share)};
}

/* All threads: copy this block's share of the message to `to`. */
DEVICE void put_share(const Launch& launch, const Message& to, const Message& from) {
    const Geometry& g = launch.geometry;
    const PackRange share = part_of_range({0, packs_of(from.bytes)}, g.block, g.blocks);
    /* in pieces, whose number of packs fits 32 bits */
    constexpr uint64_t kPiece = 1u << 30;
    for (uint64_t first = share.begin; first < share.end; first += kPiece) {
        const uint32_t piece = uint32_t(share.end - first < kPiece ? share.end - first : kPiece);
        const uint32_t whole = whole_packs(to, first, whole_packs(from, first, piece));
        copy_to_staging(to.base + first * HIPCOMM_PACK_BYTES, from.base + first * HIPCOMM_PACK_BYTES, whole, g);
        copy_message(g, to, from, first + whole, piece - whole);
    }
}
