/* Sums over a row: (+0) plus one binary tree over the element index, padded with +0 to a power of two
 * (docs/numbers.md). Whatever owns an aligned power of two of elements computes a subtree: a thread's slice, then a
 * warp. What warps have is added up by tree_of(), wherever it has been left: in shared memory, or in words that several
 * blocks read (kernels/fused/row_sums.h). */
#pragma once

#include "../arch/arch.h"
#include "../../hipcomm/abi/norm_args.h"

template <uint32_t n>
DEVICE float subtree(const float (&terms)[n]) {
    if constexpr (n == 1) {
        return terms[0];
    } else {
        float half[n / 2];
        UNROLL(16)
        for (uint32_t i = 0; i < n / 2; ++i) half[i] = terms[2 * i] + terms[2 * i + 1];
        return subtree(half);
    }
}

/* Equal subtrees, one after the other: a binary counter whose digits are the sums of 1, 2, 4, ... of them. */
template <uint32_t kDigits>
struct Subtrees {
    float digit[kDigits] = {};
    uint32_t count = 0;

    DEVICE_MEMBER void add(float sum) {
        const uint32_t before = count++;
        bool carry = true;
        UNROLL(8)
        for (uint32_t k = 0; k < kDigits; ++k) {
            const float both = digit[k] + sum;
            const bool is_free = !(before >> k & 1);
            digit[k] = carry && is_free ? sum : digit[k];
            sum = both;
            carry = carry && !is_free;
        }
    }
    /* What is missing to a power of two is zeros. */
    DEVICE_MEMBER float total() const {
        float sum = 0.0f;
        UNROLL(8)
        for (uint32_t k = 0; k < kDigits; ++k)
            if (count >> k & 1) sum = digit[k] + sum;
        return sum;
    }
};

/* The threads that add up among themselves; a block of one thread has one. */
#ifdef HAS_WARPS
constexpr uint32_t kLanes = kWarp;
DEVICE float sum_of_lanes(float sum) {
    UNROLL(8)
    for (uint32_t mask = 1; mask < kLanes; mask *= 2) sum = sum + shuffle_xor(sum, mask);
    return sum;
}
#else
constexpr uint32_t kLanes = 1;
DEVICE float sum_of_lanes(float sum) { return sum; }
#endif

constexpr uint32_t kMostPartials = HIPCOMM_ROW_PARTIALS;

/* All lanes of a warp: the sum of `count` equal subtrees, load(0), load(1), ... The same in all lanes. */
template <class Load>
DEVICE float tree_of(uint32_t count, uint32_t lane, Load load) {
    if constexpr (kLanes == 1) {
        float level[kMostPartials];
        uint32_t width = 1;
        while (width < count) width *= 2;
        for (uint32_t i = 0; i < width; ++i) level[i] = i < count ? load(i) : 0.0f;
        for (; width > 1; width /= 2)
            for (uint32_t i = 0; i < width / 2; ++i) level[i] = level[2 * i] + level[2 * i + 1];
        return 0.0f + level[0];
    } else {
        Subtrees<5> of_warps;
        static_assert(kLanes == 1 || kMostPartials / kLanes < 32, "it has five digits");
        NO_UNROLL
        for (uint32_t first = 0;; first += kLanes) {
            const float sum = sum_of_lanes(first + lane < count ? load(first + lane) : 0.0f);
            if (!UNLIKELY(count > kLanes)) return 0.0f + sum;
            of_warps.add(sum);
            if (first + kLanes >= count) return 0.0f + of_warps.total();
        }
    }
}
