/* The 8-bit float formats, all through one run-time description: eight formats times four operations as
 * templates would double the kernels for types that mostly travel as bytes.
 *
 * Reductions accumulate in float32 and round once. Rounding, overflow and specials are those of
 * ml_dtypes' conversion from float32, bit for bit (any NaN being as good as another).
 */
#pragma once

#include "dtype.h"

/* A format in numbers, so that conversions compare and need not branch. Codes are without the sign bit
 * unless said otherwise; kNever is not a code. */
constexpr uint32_t kNever = 0x100;
struct Float8Format {
    uint32_t mantissa_bits, bias;
    uint32_t infinity;  /* or kNever */
    uint32_t nan_above; /* larger codes are NaN */
    uint32_t nan_code;  /* with the sign bit: this code is NaN too; or kNever */
    uint32_t overflow;  /* what becomes of numbers too large: infinity, or with the sign bit a NaN */
    bool exponent_only; /* none of the above */
};

/* Read anew for each pack, and kept in vector registers: the scalar ones are what a reduction runs out of. */
DEVICE Float8Format float8_format(const hipcommKernelArgs& args) {
    const hipcommFloat8& format = reload_args(args).float8;
    const uint32_t mantissa_bits = in_vector_register(format.mantissa_bits);
    const bool ieee = format.specials == HIPCOMM_FLOAT8_IEEE;
    const bool unsigned_zero = format.specials == HIPCOMM_FLOAT8_UNSIGNED_ZERO;
    const uint32_t infinity = (0x7fu >> mantissa_bits) << mantissa_bits;
    return {mantissa_bits,
            in_vector_register(format.bias),
            in_vector_register(ieee ? infinity : kNever),
            in_vector_register(ieee ? infinity : unsigned_zero ? 0x7fu : 0x7eu),
            in_vector_register(unsigned_zero ? 0x80u : kNever),
            in_vector_register(ieee ? infinity : unsigned_zero ? 0x80u : 0x7fu),
            format.specials == HIPCOMM_FLOAT8_EXPONENT_ONLY};
}

/* The two that norms are quantised to, whose NaNs have one code. */
DEVICE Float8Format e4m3_format(bool is_fnuz) {
    return {3,
            in_vector_register(is_fnuz ? 8u : 7u),
            kNever,
            in_vector_register(is_fnuz ? 0x7fu : 0x7eu),
            in_vector_register(is_fnuz ? 0x80u : kNever),
            in_vector_register(is_fnuz ? 0x80u : 0x7fu),
            false};
}

/* 2^exponent as a float32; the exponent is that of a normal number. */
DEVICE float power_of_two(uint32_t exponent) { return float_from_bits((127 + exponent) << 23); }

constexpr uint32_t kFloatInfinity = 0x7f800000u, kFloatNan = 0x7fc00000u;

/* e8m0: no sign, no mantissa, no zero. */
DEVICE float widen_exponent(uint8_t bits) {
    return float_from_bits(bits == 0xff ? kFloatNan : bits == 0 ? 0x00400000u : uint32_t(bits) << 23);
}

DEVICE float widen_float8(uint8_t bits, const Float8Format& format) {
    if (format.exponent_only) return widen_exponent(bits);

    const uint32_t magnitude = bits & 0x7fu;
    const uint32_t normal = (magnitude << (23 - format.mantissa_bits)) + ((127 - format.bias) << 23);
    const uint32_t denormal =
        bits_of_float(float(int(magnitude)) * power_of_two(1 - format.bias - format.mantissa_bits));
    uint32_t result = magnitude >> format.mantissa_bits ? normal : denormal;
    result = magnitude == format.infinity ? kFloatInfinity : result;
    result = magnitude > format.nan_above || bits == format.nan_code ? kFloatNan : result;
    return float_from_bits(uint32_t(bits & 0x80u) << 24 | result);
}

/* Rounds half up, as ml_dtypes does; zero and negative numbers have no counterpart: NaN. */
DEVICE uint8_t narrow_to_exponent(uint32_t bits) {
    if (bits == 0 || bits > kFloatInfinity) return 0xff;
    if (bits < 0x00800000u) return bits >= 0x00600000u; /* below 2^-126: 1.5 x 2^-127 is the half */
    return uint8_t((bits + 0x00400000u) >> 23);         /* infinity becomes 0xff by itself */
}

/* The magnitude of a float32, to nearest even, in a format of few bits that has every number that large. */
DEVICE uint32_t narrow_magnitude(uint32_t magnitude, uint32_t mantissa_bits, uint32_t bias) {
    const uint32_t shift = 23 - mantissa_bits;
    const uint32_t rebias = (127 - bias) << 23;
    /* the odd bit makes the tie go to even; a carry into the exponent is right */
    const uint32_t scaled = magnitude - rebias;
    const uint32_t normal = (scaled + (1u << (shift - 1)) - 1 + (scaled >> shift & 1)) >> shift;
    /* the adder itself rounds to a multiple of the least denormal */
    const float magic = power_of_two(1 - bias - mantissa_bits + 23);
    const uint32_t denormal = bits_of_float(float_from_bits(magnitude) + magic) - bits_of_float(magic);
    return magnitude >= rebias + (1u << 23) ? normal : denormal;
}

DEVICE uint8_t narrow_to_float8(float value, const Float8Format& format) {
    const uint32_t bits = bits_of_float(value);
    if (format.exponent_only) return narrow_to_exponent(bits);

    const uint32_t magnitude = bits & 0x7fffffffu;
    uint32_t result = narrow_magnitude(magnitude, format.mantissa_bits, format.bias);

    /* the largest number is the code below infinity, or that below which there are NaNs */
    const uint32_t largest = format.infinity != kNever ? format.infinity - 1 : format.nan_above;
    result = result > largest ? format.overflow : result;
    result = magnitude > kFloatInfinity ? (format.nan_code != kNever ? format.nan_code : 0x7fu) : result;
    const uint32_t sign = result == 0 && format.nan_code != kNever ? 0 : bits >> 24 & 0x80u; /* one zero only */
    return uint8_t(sign | result);
}
