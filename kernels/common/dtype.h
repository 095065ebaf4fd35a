/* Element types and their conversions to the type they accumulate in.
 *
 * float16 and bfloat16 accumulate in float32, everything else in itself; narrowing rounds once, to
 * nearest even, and keeps denormals. Integers accumulate unsigned, so that they wrap. The 16-bit
 * formats are converted with integer arithmetic on every target: g++ 12 has no _Float16 in C++, and
 * one definition gives one result.
 */
#pragma once

#include "../arch/arch.h"

DEVICE float float_from_bits(uint32_t bits) { return __builtin_bit_cast(float, bits); }
DEVICE uint32_t bits_of_float(float value) { return __builtin_bit_cast(uint32_t, value); }

struct float16 {
    uint16_t bits;
};
struct bfloat16 {
    uint16_t bits;
};

DEVICE float widen(float16 x) {
    const uint32_t sign = uint32_t(x.bits & 0x8000u) << 16;
    const uint32_t magnitude = x.bits & 0x7fffu;
    const uint32_t normal = (magnitude << 13) + (112u << 23);          /* exponent bias 15 -> 127 */
    const uint32_t special = (magnitude << 13) | 0x7f800000u;          /* infinity, NaN */
    const uint32_t denormal = bits_of_float(float(int(magnitude)) * 0x1p-24f); /* exact */
    const uint32_t bits = magnitude >= 0x7c00u ? special : magnitude >= 0x0400u ? normal : denormal;
    return float_from_bits(sign | bits);
}

DEVICE float16 narrow_to(float value, float16*) {
    const uint32_t bits = bits_of_float(value);
    const uint32_t sign = bits >> 16 & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    /* the odd bit makes the tie go to even; a carry into the exponent is right, also into infinity */
    const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1)) >> 13;
    /* adding 0.5 leaves the multiple of 2^-24 in the low bits, rounded by the adder itself */
    const uint32_t denormal = bits_of_float(float_from_bits(magnitude) + 0.5f) - bits_of_float(0.5f);
    const uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
    const uint32_t half = magnitude >= 0x47800000u   ? special  /* 65536 and more */
                          : magnitude >= 0x38800000u ? normal   /* 2^-14 and more */
                                                     : denormal;
    return {uint16_t(sign | half)};
}

DEVICE float widen(bfloat16 x) { return float_from_bits(uint32_t(x.bits) << 16); }

DEVICE bfloat16 narrow_to(float value, bfloat16*) {
    const uint32_t bits = bits_of_float(value);
    const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
    const uint32_t nan = bits >> 16 | 0x0040u;
    return {uint16_t((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded)};
}

DEVICE float widen(float x) { return x; }
DEVICE float narrow_to(float value, float*) { return value; }
DEVICE double widen(double x) { return x; }
DEVICE double narrow_to(double value, double*) { return value; }

#define HIPCOMM_INTEGER(type, unsigned_type)                                  \
    DEVICE unsigned_type widen(type x) { return static_cast<unsigned_type>(x); } \
    DEVICE type narrow_to(unsigned_type value, type*) { return static_cast<type>(value); }
HIPCOMM_INTEGER(int8_t, uint8_t)
HIPCOMM_INTEGER(uint8_t, uint8_t)
HIPCOMM_INTEGER(int32_t, uint32_t)
HIPCOMM_INTEGER(uint32_t, uint32_t)
HIPCOMM_INTEGER(int64_t, uint64_t)
HIPCOMM_INTEGER(uint64_t, uint64_t)
#undef HIPCOMM_INTEGER

template <class T>
using Accumulated = decltype(widen(T{}));
