/* Quantised outputs, a slice of a row at a time: codes, the scales of its groups, and what is behind them. */
#pragma once

#include "amax.h"

DEVICE bool is_fp4(const hipcommQuantisedArgs& q) {
    return q.format == hipcommNormFormatMxfp4 || q.format == hipcommNormFormatNvfp4;
}
DEVICE bool has_float_scales(const hipcommQuantisedArgs& q) { return q.format <= hipcommNormFormatFp8PerGroup; }
DEVICE bool has_given_scale(const hipcommQuantisedArgs& q) { return q.format == hipcommNormFormatFp8GivenScale; }

DEVICE Scale scale_of(const hipcommQuantisedArgs& q, uint32_t amax) {
    const float quotient = float_from_bits(amax) / (is_fp4(q) ? kLargestE2m1 : largest_e4m3(q.is_fnuz));
    switch (q.format) {
        case hipcommNormFormatFp8PerGroupE8M0: return exponent_scale(amax, quotient);
        case hipcommNormFormatMxfp4: return mxfp4_scale(amax);
        case hipcommNormFormatNvfp4: return nvfp4_scale(amax, quotient, *q.global_scale);
        default: return fp8_scale(amax, quotient);
    }
}

/* ---- where scales lie: group k of row m ------------------------------------------------------------------------ */

DEVICE uint64_t place_of_scale(const hipcommQuantisedArgs& q, uint64_t groups, uint64_t m, uint64_t k) {
    switch (q.layout) {
        case hipcommNormScalesColumnMajor: return k * q.scales_stride + m;
        case hipcommNormScalesPacked: return (k / 4 * q.scales_stride + m) * 4 + k % 4;
        case hipcommNormScalesSwizzled:
            return (m / 128 * ((groups + 3) / 4) + k / 4) * 512 + m % 32 * 16 + m % 128 / 32 * 4 + k % 4;
        default: return m * groups + k;
    }
}

/* Of a row; not of a given scale. */
DEVICE uint32_t groups_of(const hipcommQuantisedArgs& q, uint32_t hidden) { return (hidden + q.group - 1) / q.group; }

/* Rows that the layout has; those behind the last one are zeros. */
DEVICE uint64_t rows_of_scales(const hipcommQuantisedArgs& q) {
    return q.layout == hipcommNormScalesPacked     ? (q.rows + 3) / 4 * 4
           : q.layout == hipcommNormScalesSwizzled ? (q.rows + 127) / 128 * 128
                                                   : q.rows;
}

DEVICE void store_scale(const hipcommQuantisedArgs& q, uint64_t place, uint32_t written) {
    if (has_float_scales(q))
        store_word(q.scales + place * 4, written);
    else
        q.scales[place] = char(written);
}

/* Thread `thread` of the `threads` that have row m of the scales: zeros in the places of groups behind the row's last, and
 * of the rows behind the last one that fall to row m: m + rows, m + 2 rows, ... */
DEVICE void pad_scales(const hipcommQuantisedArgs& q, uint32_t hidden, uint64_t m, uint32_t thread, uint32_t threads) {
    if (q.layout != hipcommNormScalesPacked && q.layout != hipcommNormScalesSwizzled) return;
    const uint32_t groups = groups_of(q, hidden), words = (groups + 3) / 4;
    if (thread == 0)
        for (uint32_t k = groups; k < words * 4; ++k) q.scales[place_of_scale(q, groups, m, k)] = 0;
    for (uint64_t row = m + q.rows; row < rows_of_scales(q); row += q.rows)
        for (uint32_t word = thread; word < words; word += threads)
            store_word(q.scales + place_of_scale(q, groups, row, 4 * word), 0);
}

/* ---- codes ----------------------------------------------------------------------------------------------------- */

/* Elements of a slice that one scale is for: of slices that are longer than a group, its groups one after the other. */
template <class T>
DEVICE uint32_t run_of(const hipcommQuantisedArgs& q) {
    return kOneThread && q.group < kSlice<T> ? q.group : kSlice<T>;
}

/* The codes of elements first, first + 1, ... first + n - 1 of a slice. */
template <class T>
DEVICE void make_codes(const hipcommQuantisedArgs& q, const Slice<T>& y, uint32_t first, uint32_t n, float scale,
                       uint8_t (&codes)[kSlice<T>]) {
    if (is_fp4(q)) {
        INDEPENDENT
        UNROLL(8)
        for (uint32_t e = 0; e < n; ++e) {
            codes[first + e] = fp4_code(widen(y.at[first + e]) * scale);
            one_by_one();
        }
    } else {
        const Float8Format format = e4m3_format(q.is_fnuz);
        const float largest = largest_e4m3(q.is_fnuz);
        INDEPENDENT
        UNROLL(8)
        for (uint32_t e = 0; e < n; ++e) {
            codes[first + e] = fp8_code(widen(y.at[first + e]) / scale, format, largest);
            one_by_one();
        }
    }
}

/* `bytes` bytes of a slice's codes. */
template <uint32_t kBytes>
DEVICE void store_codes(char* to, const uint8_t (&codes)[kBytes], uint32_t bytes) {
    if constexpr (kOneThread) {
        __builtin_memcpy(to, codes, bytes);
    } else {
        uint64_t word = 0;
        UNROLL(8)
        for (uint32_t i = 0; i < kBytes; ++i) word |= uint64_t(codes[i]) << 8 * i;
        if (bytes == kBytes && reinterpret_cast<uintptr_t>(to) % kBytes == 0) {
            if constexpr (kBytes == 8) *reinterpret_cast<uint64_t*>(to) = word;
            if constexpr (kBytes == 4) *reinterpret_cast<uint32_t*>(to) = uint32_t(word);
            if constexpr (kBytes == 2) *reinterpret_cast<uint16_t*>(to) = uint16_t(word);
            return;
        }
        NO_UNROLL
        for (uint32_t i = 0; i < bytes; ++i) {
            to[i] = char(word);
            word >>= 8;
        }
    }
}

template <class T>
DEVICE void store_slice_of_codes(const hipcommQuantisedArgs& q, char* row, uint32_t i, uint32_t left,
                                 const uint8_t (&codes)[kSlice<T>]) {
    const uint32_t elements = left < kSlice<T> ? left : kSlice<T>;
    if (is_fp4(q)) {
        uint8_t pairs[kSlice<T> / 2];
        UNROLL(8)
        for (uint32_t e = 0; e < kSlice<T> / 2; ++e) pairs[e] = uint8_t(codes[2 * e] | codes[2 * e + 1] << 4);
        store_codes(row + uint64_t(i) * (kSlice<T> / 2), pairs, (elements + 1) / 2);
    } else {
        store_codes(row + uint64_t(i) * kSlice<T>, codes, elements);
    }
}

/* Slice i of row m of the call, of which the row has `left` elements, the others being zeros. amax(first, n): that of the group to
 * which elements first ... first + n - 1 of the slice belong. Of a slice without elements nothing is written, but its
 * thread takes part in amax(). */
template <class T, class Amax>
DEVICE void write_codes(const hipcommNormArgs& args, uint64_t m, uint32_t i, uint32_t left, const Slice<T>& y, Amax amax) {
    const hipcommQuantisedArgs& q = args.quantised;
    char* const row = global_pointer(reinterpret_cast<uint64_t>(q.codes)) + m * q.codes_stride;
    uint8_t codes[kSlice<T>];
    if (has_given_scale(q)) {
        if (left == 0) return;
        make_codes(q, y, 0, kSlice<T>, float_from_bits(load_word(q.scales)), codes);
        return store_slice_of_codes<T>(q, row, i, left, codes);
    }
    const uint32_t run = run_of<T>(q), groups = groups_of(q, args.hidden);
    for (uint32_t first = 0; first < kSlice<T>; first += run) {
        const Scale scale = scale_of(q, amax(first, run));
        const uint32_t element = i * kSlice<T> + first;
        if (first < left && element % q.group == 0)
            store_scale(q, place_of_scale(q, groups, m - q.first, element / q.group), scale.written);
        make_codes(q, y, first, run, scale.applied, codes);
    }
    if (left) store_slice_of_codes<T>(q, row, i, left, codes);
}
