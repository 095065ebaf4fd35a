/* The sum over ranks, in rank order and rounded to T, as the reductions of numbers/reduce.h make it; without their
 * averages, whose divisions are code to be fetched. */
#pragma once

#include "../numbers/reduce.h"
#include "pieces.h"

template <class T, class Bits>
struct RankSum {
    static constexpr uint32_t kElements = sizeof(Bits) / sizeof(T);
    struct Elements {
        T at[kElements];
    };
    float total[kElements];

    DEVICE_MEMBER void add(bool first, const Bits& bits) {
        const auto elements = __builtin_bit_cast(Elements, bits);
        if (first) {
            UNROLL(8)
            for (uint32_t i = 0; i < kElements; ++i) total[i] = widen(elements.at[i]);
        } else {
            UNROLL(8)
            for (uint32_t i = 0; i < kElements; ++i) total[i] = Sum::combine<T>(total[i], widen(elements.at[i]));
        }
    }
    DEVICE_MEMBER Bits rounded() const {
        if constexpr (sizeof(Bits) == sizeof(Slice<T>)) {
            Slice<T> slice;
            round_to<T>(total, slice);
            return __builtin_bit_cast(Bits, slice);
        } else {
            Elements elements;
            for (uint32_t i = 0; i < kElements; ++i) elements.at[i] = narrow_to(total[i], static_cast<T*>(nullptr));
            return __builtin_bit_cast(Bits, elements);
        }
    }
};
