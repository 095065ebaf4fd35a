/* Element types and their conversions to the type they accumulate in.
 *
 * float16 and bfloat16 accumulate in float32, everything else in itself; narrowing rounds once, to
 * nearest even, and keeps denormals. Integers accumulate unsigned, so that they wrap.
 */
#pragma once

#include "../arch/arch.h"
#include "bits.h"

struct float16 {
    uint16_t bits;
};
struct bfloat16 {
    uint16_t bits;
};

DEVICE float widen(float16 x) { return half_to_float(x.bits); }
DEVICE float16 narrow_to(float value, float16*) { return {float_to_half(value)}; }

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
