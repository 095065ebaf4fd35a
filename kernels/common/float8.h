/* The 8-bit float formats, all through one run-time description: eight formats times four operations as
 * templates would double the kernels for types that mostly travel as bytes.
 *
 * Reductions accumulate in float32 and round once. Rounding, overflow and specials are those of
 * ml_dtypes' conversion from float32, bit for bit (any NaN being as good as another).
 */
#pragma once

#include "dtype.h"

/* 2^exponent as a float32; the exponent is that of a normal number. */
DEVICE float power_of_two(int exponent) { return float_from_bits(uint32_t(127 + exponent) << 23); }

DEVICE float widen_float8(uint8_t bits, const hipcommFloat8& format) {
    const float nan = float_from_bits(0x7fc00000u);
    if (format.specials == HIPCOMM_FLOAT8_EXPONENT_ONLY) /* no sign, no mantissa, no zero */
        return bits == 0xff ? nan : float_from_bits(bits == 0 ? 0x00400000u : uint32_t(bits) << 23);

    const uint32_t magnitude = bits & 0x7fu;
    const uint32_t infinity = (0x7fu >> format.mantissa_bits) << format.mantissa_bits; /* IEEE */
    const bool is_nan = format.specials == HIPCOMM_FLOAT8_IEEE     ? magnitude > infinity
                        : format.specials == HIPCOMM_FLOAT8_FINITE ? magnitude == 0x7fu
                                                                   : bits == 0x80u;
    const uint32_t normal = (magnitude << (23 - format.mantissa_bits)) + (uint32_t(127 - format.bias) << 23);
    const uint32_t denormal =
        bits_of_float(float(int(magnitude)) * power_of_two(1 - format.bias - format.mantissa_bits));
    uint32_t result = magnitude >> format.mantissa_bits ? normal : denormal;
    if (format.specials == HIPCOMM_FLOAT8_IEEE && magnitude == infinity) result = 0x7f800000u;
    return is_nan ? nan : float_from_bits(uint32_t(bits & 0x80u) << 24 | result);
}

/* Rounds half up, as ml_dtypes does; zero and negative numbers have no counterpart: NaN. */
DEVICE uint8_t narrow_to_exponent(uint32_t bits) {
    if (bits == 0 || bits > 0x7f800000u) return 0xff;
    if (bits < 0x00800000u) return bits >= 0x00600000u; /* below 2^-126: 1.5 x 2^-127 is the half */
    return uint8_t((bits + 0x00400000u) >> 23);         /* infinity becomes 0xff by itself */
}

DEVICE uint8_t narrow_to_float8(float value, const hipcommFloat8& format) {
    const uint32_t bits = bits_of_float(value);
    if (format.specials == HIPCOMM_FLOAT8_EXPONENT_ONLY) return narrow_to_exponent(bits);

    const uint32_t magnitude = bits & 0x7fffffffu;
    const uint32_t sign = bits >> 24 & 0x80u;
    const uint32_t shift = 23 - format.mantissa_bits;
    const uint32_t rebias = uint32_t(127 - format.bias) << 23;
    uint32_t result;
    if (magnitude >= rebias + (1u << 23)) {
        /* the odd bit makes the tie go to even; a carry into the exponent is right */
        const uint32_t scaled = magnitude - rebias;
        result = (scaled + (1u << (shift - 1)) - 1 + (scaled >> shift & 1)) >> shift;
    } else {
        /* the adder itself rounds to a multiple of the least denormal */
        const float magic = power_of_two(1 - format.bias - format.mantissa_bits + 23);
        result = bits_of_float(float_from_bits(magnitude) + magic) - bits_of_float(magic);
    }

    const bool is_nan = magnitude > 0x7f800000u;
    if (format.specials == HIPCOMM_FLOAT8_IEEE) {
        const uint32_t infinity = (0x7fu >> format.mantissa_bits) << format.mantissa_bits;
        return uint8_t(sign | (is_nan ? 0x7fu : result < infinity ? result : infinity));
    }
    if (format.specials == HIPCOMM_FLOAT8_FINITE)
        return uint8_t(sign | (is_nan || result > 0x7fu ? 0x7fu : result)); /* overflow: NaN */
    if (is_nan || result > 0x7fu) return 0x80;
    return uint8_t(result == 0 ? 0 : sign | result); /* one zero only */
}
