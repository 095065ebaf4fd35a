/* A row in slices: what one thread takes of a row at a time, an aligned power of two of elements. A pack on GPUs; where
 * a block is one thread, a run that the compiler turns into vector code and that the first-level cache holds. */
#pragma once

#include "../data/pack.h"
#include "../numbers/norm.h"
#include "../../hipcomm/abi/norm_args.h"

template <class T>
constexpr uint32_t kSlice = HIPCOMM_SLICE_ELEMENTS(kOneThread, sizeof(T));

template <class T>
struct Slice {
    T at[kSlice<T>];
};

/* Floats, rounded to T. */
template <class T>
DEVICE void round_to(const float (&values)[kSlice<T>], Slice<T>& slice) {
#ifdef HAS_PAIR_CONVERSIONS
    if constexpr (sizeof(T) == 2) {
        Pack pack;
        UNROLL(4)
        for (uint32_t i = 0; i < 4; ++i) {
            if constexpr (__is_same(T, float16))
                pack[i] = halves_of(values[2 * i], values[2 * i + 1]);
            else
                pack[i] = bfloats_of(values[2 * i], values[2 * i + 1]);
        }
        __builtin_memcpy(&slice, &pack, sizeof slice);
        return;
    }
#endif
    UNROLL(8)
    for (uint32_t e = 0; e < kSlice<T>; ++e) slice.at[e] = narrow_to(values[e], static_cast<T*>(nullptr));
}

/* v = T(v + residual) */
template <class T>
DEVICE void add_residual_slice(Slice<T>& v, const Slice<T>& residual) {
    float sums[kSlice<T>];
    UNROLL(8)
    for (uint32_t e = 0; e < kSlice<T>; ++e) sums[e] = with_residual(widen(v.at[e]), widen(residual.at[e]));
    round_to(sums, v);
}

/* Whole packs that live for a while: where registers are scarce, as they are, not taken to pieces (kernels/arch/). */
template <class Packs>
DEVICE void hold(Packs& packs) {
    if constexpr (!kOneThread) {
        constexpr uint32_t kPacks = sizeof(Packs) / HIPCOMM_PACK_BYTES;
        struct Held {
            Pack pack[kPacks];
        };
        static_assert(sizeof(Held) == sizeof packs);
        Held held;
        __builtin_memcpy(&held, &packs, sizeof held);
        UNROLL(4)
        for (uint32_t k = 0; k < kPacks; ++k) hold_packed(held.pack[k]);
        __builtin_memcpy(&packs, &held, sizeof held);
    }
}

/* Elements i * n, i * n + 1, ... of a row; those past its end are zero. kSimple: rows are whole packs, as pieces.h says. */
template <bool kSimple, class T, uint32_t n>
DEVICE void load_run(const Message& row, uint32_t i, T (&run)[n]) {
    constexpr uint32_t kBytes = n * sizeof(T);
    if constexpr (kOneThread) {
        const uint64_t left = row.bytes - uint64_t(i) * kBytes;
        if (!UNLIKELY(left < kBytes)) {
            __builtin_memcpy(run, row.base + uint64_t(i) * kBytes, kBytes);
        } else {
            __builtin_memset(run, 0, kBytes);
            __builtin_memcpy(run, row.base + uint64_t(i) * kBytes, left);
        }
    } else {
        constexpr uint32_t kPacks = kBytes / HIPCOMM_PACK_BYTES;
        struct Packs {
            Pack pack[kPacks];
        } packs{};
        UNROLL(4)
        for (uint32_t k = 0; k < kPacks; ++k) {
            const uint32_t pack = i * kPacks + k;
            if (pack * HIPCOMM_PACK_BYTES < uint32_t(row.bytes))
                packs.pack[k] = kSimple ? load_pack(row.base + pack * HIPCOMM_PACK_BYTES) : load_message(row, pack);
        }
        __builtin_memcpy(run, &packs, kBytes);
    }
}

template <bool kSimple, class T>
DEVICE void load_slice(const Message& row, uint32_t i, Slice<T>& slice) {
    load_run<kSimple>(row, i, slice.at);
}

/* Elements past the row's end are not stored. */
template <bool kSimple, class T>
DEVICE void store_slice(const Message& row, uint32_t i, const Slice<T>& slice) {
    if constexpr (kOneThread) {
        const uint64_t left = row.bytes - uint64_t(i) * sizeof slice;
        __builtin_memcpy(row.base + uint64_t(i) * sizeof slice, &slice, left < sizeof slice ? left : sizeof slice);
    } else if constexpr (kSimple) {
        store_pack(row.base + i * HIPCOMM_PACK_BYTES, __builtin_bit_cast(Pack, slice));
    } else {
        store_message(row, i, __builtin_bit_cast(Pack, slice));
    }
}

template <class T>
DEVICE uint32_t slices_of(uint32_t hidden) {
    return (hidden + kSlice<T> - 1) / kSlice<T>;
}

/* Row `index` of rows `stride` bytes apart. */
template <class T>
DEVICE Message row_of(const void* rows, uint64_t stride, uint64_t index, uint32_t hidden) {
    return message(static_cast<const char*>(rows) + index * stride, uint64_t(hidden) * sizeof(T));
}

/* The arguments at the start of a sweep: nothing that earlier ones have computed from them stays alive in registers. */
DEVICE const hipcommNormArgs& new_sweep(const hipcommNormArgs& args) {
    return reinterpret_cast<const hipcommNormArgs&>(reload_args(args.common));
}
