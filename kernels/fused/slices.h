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

/* Elements i * n, i * n + 1, ... of a row; those past its end are zero. */
template <class T, uint32_t n>
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
        for (uint32_t k = 0; k < kPacks; ++k)
            if (uint64_t(i * kPacks + k) * HIPCOMM_PACK_BYTES < row.bytes) packs.pack[k] = load_message(row, i * kPacks + k);
        __builtin_memcpy(run, &packs, kBytes);
    }
}

template <class T>
DEVICE void load_slice(const Message& row, uint32_t i, Slice<T>& slice) {
    load_run(row, i, slice.at);
}

/* Elements past the row's end are not stored. */
template <class T>
DEVICE void store_slice(const Message& row, uint32_t i, const Slice<T>& slice) {
    if constexpr (kOneThread) {
        const uint64_t left = row.bytes - uint64_t(i) * sizeof slice;
        __builtin_memcpy(row.base + uint64_t(i) * sizeof slice, &slice, left < sizeof slice ? left : sizeof slice);
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

/* A slice of the weight or the bias in float32; `missing` where there is none. */
template <class T>
DEVICE void load_parameters(const void* parameters, bool is_float32, float missing, uint32_t hidden, uint32_t i,
                            float (&values)[kSlice<T>]) {
    if (!parameters) {
        for (float& value : values) value = missing;
    } else if (is_float32) {
        load_run(message(parameters, uint64_t(hidden) * sizeof(float)), i, values);
    } else {
        Slice<T> slice;
        load_slice(message(parameters, uint64_t(hidden) * sizeof(T)), i, slice);
        UNROLL(8)
        for (uint32_t e = 0; e < kSlice<T>; ++e) values[e] = widen(slice.at[e]);
    }
}
