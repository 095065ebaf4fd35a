/* The largest magnitude of a group of a row: of elements of a slice, of neighbouring slices, or of the whole row. Its
 * order does not matter; a magnitude is the bits of a float32 without its sign (numbers/quantise.h). What lanes share is
 * exchanged by shuffles; what pieces of a row share is posted as their sums are (row_sums.h), and read from there. */
#pragma once

#include "../numbers/quantise.h"
#include "row_sums.h"

DEVICE uint32_t larger(uint32_t a, uint32_t b) { return a > b ? a : b; }

/* Of elements first ... first + n - 1 of a slice. */
template <class T>
DEVICE uint32_t amax_of_slice(const Slice<T>& y, uint32_t first, uint32_t n) {
    uint32_t amax = 0;
    UNROLL(8)
    for (uint32_t e = 0; e < n; ++e) amax = larger(amax, magnitude_of(widen(y.at[first + e])));
    return amax;
}

/* All lanes: of `lanes` neighbours, a power of two. */
DEVICE uint32_t amax_of_lanes(uint32_t amax, uint32_t lanes) {
#ifdef HAS_WARPS
    NO_UNROLL
    for (uint32_t mask = 1; mask < lanes; mask *= 2) amax = larger(amax, shuffle_xor(amax, mask));
#endif
    (void)lanes;
    return amax;
}
