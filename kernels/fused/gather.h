/* Finished rows on their way from their owners to everybody, through the staging slab: in the caller's dtype, as codes, or
 * both, and the scales. What an owner sends of a row is one run of packs, a record; scales lie in it by groups, and
 * wherever the layouts say at either end. */
#pragma once

#include "../data/staging.h"
#include "codes.h"
#include "owners.h"

/* A row as its owner has it, or as it is wanted. */
struct GatheredRow {
    const Message values, residual, codes; /* of no bytes: there are none */
    const hipcommQuantisedArgs& quantised;
    const uint64_t m;            /* of the scales */
    const uint32_t groups;       /* none: there are no scales */
};

/* `values` of row m of the call, the row before its norm, and what `quantised` says. */
DEVICE GatheredRow gathered_row(const Message& values, const Message& residual, const hipcommQuantisedArgs& quantised,
                                uint64_t m, uint32_t hidden) {
    const bool is_quantised = quantised.format != hipcommNormFormatNone;
    const uint32_t code_bytes = !is_quantised ? 0 : is_fp4(quantised) ? (hidden + 1) / 2 : hidden;
    return {values, residual, message(quantised.codes + m * quantised.codes_stride, code_bytes), quantised, m - quantised.first,
            is_quantised && !has_given_scale(quantised) ? groups_of(quantised, hidden) : 0};
}

/* Scales in packs. */
DEVICE uint32_t scales_in_pack(const hipcommQuantisedArgs& q) {
    return has_float_scales(q) ? HIPCOMM_PACK_BYTES / 4 : HIPCOMM_PACK_BYTES;
}
DEVICE uint32_t packs_of_scales(const GatheredRow& row) {
    const uint32_t in_pack = scales_in_pack(row.quantised);
    return (row.groups + in_pack - 1) / in_pack;
}

/* Call visit(place, i) for the scales of pack `pack`: i is the word, or the byte, of it. */
template <class Visit>
DEVICE void visit_scales(const GatheredRow& row, uint32_t pack, Visit visit) {
    const uint32_t in_pack = scales_in_pack(row.quantised), first = pack * in_pack;
    NO_UNROLL
    for (uint32_t i = 0; i < in_pack && first + i < row.groups; ++i)
        visit(place_of_scale(row.quantised, row.groups, row.m, first + i), i);
}
DEVICE Pack load_scales(const GatheredRow& row, uint32_t pack) {
    const hipcommQuantisedArgs& q = row.quantised;
    const bool are_words = has_float_scales(q);
    uint64_t low = 0, high = 0;
    visit_scales(row, pack, [&](uint64_t place, uint32_t i) IN_LINE {
        const uint64_t scale = are_words ? load_word(q.scales + place * 4) : uint8_t(q.scales[place]);
        const uint32_t bit = i * (are_words ? 32 : 8);
        low |= bit < 64 ? scale << bit : 0;
        high |= bit < 64 ? 0 : scale << (bit - 64);
    });
    return Pack{uint32_t(low), uint32_t(low >> 32), uint32_t(high), uint32_t(high >> 32)};
}
DEVICE void store_scales(const GatheredRow& row, uint32_t pack, Pack scales) {
    const hipcommQuantisedArgs& q = row.quantised;
    const uint64_t low = uint64_t(scales[1]) << 32 | scales[0], high = uint64_t(scales[3]) << 32 | scales[2];
    const uint32_t bits = has_float_scales(q) ? 32 : 8;
    visit_scales(row, pack, [&](uint64_t place, uint32_t i) IN_LINE {
        store_scale(q, place, uint32_t((i * bits < 64 ? low : high) >> i * bits % 64));
    });
}

/* What a record has, in its order; scales are behind the codes. Rows before their norm are sent where a block is one
 * thread alone: elsewhere they would cost registers for nothing. */
struct RecordPacks {
    uint32_t values, residual, codes;

    DEVICE_MEMBER uint64_t before_residual() const { return uint64_t(values) * HIPCOMM_PACK_BYTES; }
    DEVICE_MEMBER uint64_t before_codes() const { return uint64_t(values + residual) * HIPCOMM_PACK_BYTES; }
    DEVICE_MEMBER uint64_t before_scale(uint32_t pack) const {
        return uint64_t(values + residual + codes + pack) * HIPCOMM_PACK_BYTES;
    }
};
DEVICE RecordPacks record_packs(const GatheredRow& row) {
    return {uint32_t(packs_of(row.values.bytes)), kOneThread ? uint32_t(packs_of(row.residual.bytes)) : 0,
            uint32_t(packs_of(row.codes.bytes))};
}

/* Where the record of a row is that `reader` gets: row `row` of `owner` in this launch, behind `before` bytes. */
DEVICE char* record(const Launch& launch, uint64_t before, uint64_t record_bytes, uint64_t count, uint32_t reader,
                    uint32_t owner, uint64_t row) {
    return launch.args.staging[reader] + launch.parity() * launch.args.staging_bytes + before +
           (owner * count + row) * record_bytes;
}

/* All threads: to everybody else; to(reader): where its record is. */
template <class To>
DEVICE void send_row(const Launch& launch, const GatheredRow& row, To to) {
    const Geometry& g = launch.geometry;
    const uint32_t self = launch.args.rank, world = launch.args.world;
    const RecordPacks packs = record_packs(row);
    NO_UNROLL
    for (uint32_t k = 1; k < world; ++k) { /* every rank begins with another peer */
        const uint32_t reader = rank_after(self, k, world);
        char* const at = to(reader);
        stage(launch, at, row.values, {0, packs.values});
        if (kOneThread) stage(launch, at + packs.before_residual(), row.residual, {0, packs.residual});
        stage(launch, at + packs.before_codes(), row.codes, {0, packs.codes});
    }
    NO_UNROLL
    for (uint32_t i = g.thread; i < packs_of_scales(row); i += g.threads) {
        const Pack pack = load_scales(row, i);
        NO_UNROLL
        for (uint32_t reader = 0; reader < world; ++reader)
            if (reader != self) store_staged(to(reader) + packs.before_scale(i), pack);
    }
}

/* All threads: into the caller's arrays. */
DEVICE void receive_row(const Launch& launch, const GatheredRow& row, const char* from, uint32_t hidden) {
    const Geometry& g = launch.geometry;
    const RecordPacks packs = record_packs(row);
    unstage(launch, row.values, {0, packs.values}, from);
    if (kOneThread) unstage(launch, row.residual, {0, packs.residual}, from + packs.before_residual());
    unstage(launch, row.codes, {0, packs.codes}, from + packs.before_codes());
    NO_UNROLL
    for (uint32_t i = g.thread; i < packs_of_scales(row); i += g.threads)
        store_scales(row, i, load_staged(from + packs.before_scale(i)));
    if (row.groups) pad_scales(row.quantised, hidden, row.m, g.thread, g.threads);
}
