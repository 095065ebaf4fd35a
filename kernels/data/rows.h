/* A message that lies in rows of the caller's memory: what a rank has of an array that is gathered or
 * scattered along a dimension other than the first. A message in one piece is a message of one row.
 *
 * Packs are cut from the rows as if they were contiguous, so a row's length need not be a
 * multiple of a pack, and what travels has no gaps.
 */
#pragma once

#include "staging.h"

struct Rows {
    Message all; /* one row: the message; otherwise its base and bytes only */
    uint64_t row_bytes;
    uint64_t row_stride; /* bytes from one row's beginning to the next one's */
    bool one_row;
    bool whole_packs; /* a full pack may be moved in one access */
};

DEVICE Rows rows(const void* base, uint64_t bytes, uint64_t row_bytes, uint64_t row_stride) {
    const Message all = message(base, bytes);
    if (row_bytes >= bytes) return {all, bytes, bytes, true, all.whole_packs};
    const bool whole = row_bytes % HIPCOMM_PACK_BYTES == 0 && all.whole_packs &&
                       (row_stride % HIPCOMM_PACK_BYTES == 0 || kUnalignedPacks);
    return {all, row_bytes, row_stride, false, whole};
}

/* Where a pack begins; the message has several rows. */
struct Place {
    char* row;
    uint64_t in_row;
};
DEVICE Place place_of(const Rows& m, uint64_t index) {
    const uint64_t row = index * HIPCOMM_PACK_BYTES / m.row_bytes;
    return {m.all.base + row * m.row_stride, index * HIPCOMM_PACK_BYTES - row * m.row_bytes};
}

/* Call visit(address, i) for each byte i of the pack `index`, which begins at `place`. */
template <class Visit>
DEVICE void visit_bytes(const Rows& m, uint64_t index, Place place, Visit visit) {
    const uint64_t left = m.all.bytes - index * HIPCOMM_PACK_BYTES;
    const uint32_t count = left < HIPCOMM_PACK_BYTES ? uint32_t(left) : HIPCOMM_PACK_BYTES;
    NO_UNROLL
    for (uint32_t i = 0; i < count; ++i) {
        visit(place.row + place.in_row, i);
        if (++place.in_row == m.row_bytes) {
            place.in_row = 0;
            place.row += m.row_stride;
        }
    }
}

/* Pack `index`; bytes past the message's end are zero. */
DEVICE Pack load_rows(const Rows& m, uint64_t index) {
    if (m.one_row) return load_message(m.all, index);
    const Place place = place_of(m, index);
    if (m.whole_packs) return load_pack(place.row + place.in_row);
    uint64_t low = 0, high = 0;
    visit_bytes(m, index, place, [&](const char* byte, uint32_t i) {
        const uint64_t value = uint64_t(uint8_t(*byte)) << i % 8 * 8;
        low |= i < 8 ? value : 0;
        high |= i < 8 ? 0 : value;
    });
    return Pack{uint32_t(low), uint32_t(low >> 32), uint32_t(high), uint32_t(high >> 32)};
}

/* Bytes past the message's end stay untouched. */
DEVICE void store_rows(const Rows& m, uint64_t index, Pack pack) {
    if (m.one_row) return store_message(m.all, index, pack);
    const Place place = place_of(m, index);
    if (m.whole_packs) return store_pack(place.row + place.in_row, pack);
    const uint64_t low = uint64_t(pack[1]) << 32 | pack[0], high = uint64_t(pack[3]) << 32 | pack[2];
    visit_bytes(m, index, place, [&](char* byte, uint32_t i) { *byte = char((i < 8 ? low : high) >> i % 8 * 8); });
}

/* All threads: copy packs of the caller's rows into staging memory, this rank's or a peer's. */
DEVICE void stage_rows(const Launch& launch, char* cell, const Rows& from, const Chunk& part) {
    if (from.one_row) return stage(launch, cell, from.all, part);
    const Geometry& g = launch.geometry;
    for (uint32_t i = g.thread; i < part.packs; i += g.threads)
        store_staged(cell + uint64_t(i) * HIPCOMM_PACK_BYTES, load_rows(from, part.first + i));
}

/* All threads: copy packs out of own staging memory into the caller's rows. */
DEVICE void unstage_rows(const Launch& launch, const Rows& to, const Chunk& part, const char* cell) {
    if (to.one_row) return unstage(launch, to.all, part, cell);
    const Geometry& g = launch.geometry;
    for (uint32_t i = g.thread; i < part.packs; i += g.threads)
        store_rows(to, part.first + i, load_staged(cell + uint64_t(i) * HIPCOMM_PACK_BYTES));
}
