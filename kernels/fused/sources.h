/* Where the fused algorithms find a slice of the sum over ranks: Sources of finish_row() (epilogue.h). */
#pragma once

#include "../numbers/reduce.h"
#include "../data/staging.h"
#include "epilogue.h"

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

/* All threads: a row of the caller's into staging memory. */
DEVICE void stage_row(const Launch& launch, char* to, const Message& row) {
    stage(launch, to, row, {0, uint32_t(packs_of(row.bytes))});
}

/* The sum over ranks, in rank order and rounded to T, of load(rank, slice). Slices of kRanks ranks are loaded together:
 * one after the other would cost a latency each. */
template <class T, class Load>
DEVICE void sum_slices(const hipcommKernelArgs& args, Load load, Slice<T>& sum) {
    constexpr uint32_t kRanks = kRanksInFlight;
    Reduction<T, Sum, Slice<T>> reduction;
    NO_UNROLL
    for (uint32_t first = 0; first < args.world; first += kRanks) {
        Slice<T> loaded[kRanks];
        UNROLL(8)
        for (uint32_t r = 0; r < kRanks; ++r)
            if (first + r < args.world) load(first + r, loaded[r]);
        UNROLL(8)
        for (uint32_t r = 0; r < kRanks; ++r)
            if (first + r < args.world) reduction.start_or_add(first + r == 0, loaded[r], args);
    }
    sum = reduction.finish(args);
}

/* What shared memory has no room for is kept in a row of this rank's staging memory that no peer touches. */
template <class T>
struct KeptInStaging {
    char* const spare;

    DEVICE_MEMBER void keep(uint32_t i, const Slice<T>& v) const { store_staged_slice(spare, i, v); }
    DEVICE_MEMBER void again(uint32_t i, Slice<T>& v) const { load_staged_slice(spare, i, v); }
};
