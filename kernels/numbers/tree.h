/* Sums over a row: (+0) plus one binary tree over the element index, padded with +0 to a power of two
 * (docs/numbers.md). Whatever owns an aligned power of two of elements computes a subtree: a thread's slice here,
 * then a warp, then the block (or, where a block is one thread, a loop over slices). */
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

/* Shared memory for the sums of warps: of each turn, of all warps' slices. */
constexpr uint32_t kMostPartials = HIPCOMM_ROW_PARTIALS;

/* One sum over a row, by all threads of a block: add() the thread's slice of each pass (pass p has slices
 * p * threads + thread), then total(). Consecutive sums use different partials, so that one barrier a sum is enough:
 * who writes partials again has met everybody who read them at the barrier of the sum in between. */
#ifdef HAS_WARPS
struct RowSum {
    const Geometry& geometry;
    float* const partials;
    uint32_t passes = 0;

    DEVICE_MEMBER void add(float sum) {
        UNROLL(8)
        for (uint32_t mask = 1; mask < kWarp; mask *= 2) sum = sum + shuffle_xor(sum, mask);
        const uint32_t warps = geometry.threads / kWarp;
        if (geometry.thread % kWarp == 0) partials[passes * warps + geometry.thread / kWarp] = sum;
        ++passes;
    }
    /* The same in all threads. */
    DEVICE_MEMBER float total() {
        block_barrier();
        const uint32_t count = passes * (geometry.threads / kWarp);
        uint32_t per_lane = 1;
        while (per_lane * kWarp < count) per_lane *= 2;
        Subtrees<5> of_lane;
        NO_UNROLL
        for (uint32_t i = 0; i < per_lane; ++i) {
            const uint32_t at = geometry.thread % kWarp * per_lane + i;
            of_lane.add(at < count ? partials[at] : 0.0f);
        }
        float sum = of_lane.total();
        UNROLL(8)
        for (uint32_t mask = 1; mask < kWarp; mask *= 2) sum = sum + shuffle_xor(sum, mask);
        return 0.0f + sum;
    }
};
static_assert(kMostPartials / kWarp <= 16, "Subtrees of a lane have five digits");
#else
struct RowSum {
    const Geometry& geometry;
    float* const partials;
    Subtrees<8> slices = {};

    DEVICE_MEMBER void add(float sum) { slices.add(sum); }
    DEVICE_MEMBER float total() { return 0.0f + slices.total(); }
};
#endif
