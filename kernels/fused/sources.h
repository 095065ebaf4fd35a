/* Where the fused algorithms find a slice of the sum over ranks: Sources of finish_row() (epilogue.h). */
#pragma once

#include "../data/staging.h"
#include "epilogue.h"
#include "rank_sums.h"

/* Row `index` of this launch's parity of a staging slab; rows are whole slices there, anything behind their end. */
template <class T>
DEVICE char* staged_row(const Launch& launch, const hipcommNormArgs& args, uint32_t rank, uint64_t index) {
    return launch.args.staging[rank] + launch.parity() * launch.args.staging_bytes +
           index * slices_of<T>(args.hidden) * sizeof(Slice<T>);
}

template <class T>
DEVICE void load_staged_slice(const char* row, uint32_t i, Slice<T>& slice) {
    const char* const at = row + uint64_t(i) * sizeof slice;
    if constexpr (kOneThread)
        __builtin_memcpy(&slice, at, sizeof slice);
    else
        slice = __builtin_bit_cast(Slice<T>, load_staged(at));
}
template <class T>
DEVICE void store_staged_slice(char* row, uint32_t i, const Slice<T>& slice) {
    char* const at = row + uint64_t(i) * sizeof slice;
    if constexpr (kOneThread)
        __builtin_memcpy(at, &slice, sizeof slice);
    else
        store_staged(at, __builtin_bit_cast(Pack, slice));
}

/* A piece of a staged row of `slices` slices. */
template <class T, uint32_t kOfLane, bool kSimple>
DEVICE void load_staged_piece(const char* row, uint32_t slices, const Pieces<kOfLane, kSimple>& pieces, uint32_t piece,
                              Slice<T> (&v)[kOfLane]) {
    UNROLL(4)
    for (uint32_t p = 0; p < kOfLane; ++p) {
        const uint32_t i = pieces.slice(piece, p);
        v[p] = {};
        if (kOneThread || i < slices) load_staged_slice(row, i, v[p]);
    }
    hold(v);
}
template <class T, uint32_t kOfLane, bool kSimple>
DEVICE void store_staged_piece(char* row, uint32_t slices, const Pieces<kOfLane, kSimple>& pieces, uint32_t piece,
                               const Slice<T> (&v)[kOfLane]) {
    UNROLL(4)
    for (uint32_t p = 0; p < kOfLane; ++p) {
        const uint32_t i = pieces.slice(piece, p);
        if (kOneThread || i < slices) store_staged_slice(row, i, v[p]);
    }
}

/* All threads: a row of the caller's into staging memory. */
DEVICE void stage_row(const Launch& launch, char* to, const Message& row) {
    stage(launch, to, row, {0, uint32_t(packs_of(row.bytes))});
}

/* The sum over ranks, in rank order and rounded to T, of load(rank, slices). Slices of several ranks are loaded together:
 * one after the other would cost a latency each. */
template <class T, uint32_t kOfLane, class Load>
DEVICE void sum_pieces(const hipcommKernelArgs& args, Load load, Slice<T> (&v)[kOfLane]) {
    constexpr uint32_t kRanks = kRanksInFlight > 2 && kOfLane > 2 ? 2 : kRanksInFlight;
    RankSum<T, Slice<T>> sum[kOfLane];
    NO_UNROLL
    for (uint32_t first = 0; first < args.world; first += kRanks) {
        Slice<T> loaded[kRanks][kOfLane];
        UNROLL(8)
        for (uint32_t r = 0; r < kRanks; ++r)
            if (first + r < args.world) load(first + r, loaded[r]);
        UNROLL(8)
        for (uint32_t r = 0; r < kRanks; ++r) {
            if (first + r >= args.world) continue;
            UNROLL(4)
            for (uint32_t p = 0; p < kOfLane; ++p) sum[p].add(first + r == 0, loaded[r][p]);
        }
    }
    UNROLL(4)
    for (uint32_t p = 0; p < kOfLane; ++p) v[p] = sum[p].rounded();
}

/* What shared memory has no room for is kept in a row of this rank's staging memory that no peer touches. */
template <class T>
struct KeptInStaging {
    char* const spare;

    DEVICE_MEMBER void keep(uint32_t i, const Slice<T>& v) const { store_staged_slice(spare, i, v); }
    DEVICE_MEMBER void again(uint32_t i, Slice<T>& v) const { load_staged_slice(spare, i, v); }
};
