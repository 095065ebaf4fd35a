/* Scales and codes of quantised outputs: docs/numbers.md, format by format. A magnitude is the bits of a float32 without
 * its sign: they compare like the numbers, infinity above all of them and NaNs above that. */
#pragma once

#include "float8.h"
#include "../../hipcomm/abi/norm_args.h"

DEVICE uint32_t magnitude_of(float value) { return bits_of_float(value) & 0x7fffffffu; }

/* The scale of a group. */
struct Scale {
    uint32_t written; /* bits of a float32, or a byte */
    float applied;    /* what 8-bit elements are divided by, and 4-bit elements multiplied by; NaN: the group has one */
};

constexpr float kLargestE2m1 = 6.0f;
DEVICE float largest_e4m3(bool is_fnuz) { return is_fnuz ? 240.0f : 448.0f; }

/* A NaN stays one. */
DEVICE float clamp(float value, float largest) {
    return value > largest ? largest : value < -largest ? -largest : value;
}

/* ---- codes ----------------------------------------------------------------------------------------------------- */

/* Of a value that is divided by its scale already; `largest`: the format's number. */
DEVICE uint8_t fp8_code(float value, const Float8Format& format, float largest) {
    const uint8_t code = narrow_to_float8(clamp(value, largest), format);
    return value != value ? uint8_t(format.overflow) : code; /* NaN has no sign */
}

/* Of one that is multiplied already; in the low half of the byte, and 0 of a NaN. */
DEVICE uint8_t fp4_code(float value) {
    const uint32_t bits = bits_of_float(clamp(value, kLargestE2m1));
    const uint32_t code = narrow_magnitude(bits & 0x7fffffffu, 1, 1) | (bits >> 28 & 8);
    return value != value ? uint8_t(0) : uint8_t(code);
}

/* ---- scales: of a group whose largest magnitude is `amax` ------------------------------------------------------ */

/* `quotient` is amax over the largest number of the codes' format. */
DEVICE Scale fp8_scale(uint32_t amax, float quotient) {
    const uint32_t bits = amax >= kFloatInfinity ? kFloatNan : bits_of_float(quotient == 0.0f ? 1.0f : quotient);
    return {bits, float_from_bits(bits)};
}

DEVICE Scale exponent_scale(uint32_t amax, float quotient) {
    const uint32_t bits = bits_of_float(quotient);
    const uint32_t rounded_up = (bits >> 23) + ((bits & 0x7fffffu) != 0);
    const uint32_t byte = amax >= kFloatInfinity ? 0xffu : bits == 0 ? 127u : rounded_up;
    return {byte, widen_exponent(uint8_t(byte))};
}

DEVICE Scale mxfp4_scale(uint32_t amax) {
    const uint32_t exponent = (amax + 0x200000u) >> 23;
    const uint32_t byte = amax >= kFloatInfinity ? 0xffu : amax == 0 ? 127u : exponent < 2 ? 0u : exponent - 2;
    return {byte, widen_exponent(uint8_t(byte == 0xffu ? byte : 254u - byte))}; /* 1 / 2^e, exactly */
}

DEVICE Scale nvfp4_scale(uint32_t amax, float quotient, float global_scale) {
    if (amax >= kFloatInfinity) return {0x7fu, float_from_bits(kFloatNan)};
    const Float8Format format = e4m3_format(false);
    const float wanted = quotient * global_scale;
    const uint8_t byte = fp8_code(wanted, format, largest_e4m3(false));
    const float scale = widen_float8(byte, format);
    if (scale == 0.0f) return {0, 0.0f};
    return {byte, global_scale / scale};
}
