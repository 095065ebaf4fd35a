// What the arithmetic instructions compute: IEEE mode, rounding to nearest even, denormals kept.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace hipcomm::amd {

using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using i16 = int16_t;
using i32 = int32_t;
using i64 = int64_t;
using f32 = float;
using f64 = double;

template <class To, class From>
inline To bit_cast(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

inline u32 bits_of(f32 x) { return bit_cast<u32>(x); }
inline u64 bits_of(f64 x) { return bit_cast<u64>(x); }

inline f32 half_to_float(u16 half) {
    const u32 sign = u32(half & 0x8000) << 16, exponent = half >> 10 & 31, mantissa = half & 0x3ff;
    if (exponent == 0) return bit_cast<f32>(sign | bits_of(f32(mantissa) * 0x1p-24f));
    if (exponent == 31)
        return bit_cast<f32>(sign | 0x7f800000u | mantissa << 13);  // a signalling NaN stays one
    return bit_cast<f32>(sign | (exponent + 112) << 23 | mantissa << 13);
}

inline u16 float_to_half(f32 value) {
    const u32 bits = bits_of(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000u) return u16(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    if (magnitude >= 0x477ff000u) return u16(sign | 0x7c00);
    if (magnitude < 0x38800000u)  // the addition rounds at the denormals' last place
        return u16(sign | (bits_of(bit_cast<f32>(magnitude) + 0.5f) - bits_of(0.5f)));
    return u16(sign | ((magnitude - 0x38000000u + 0xfff + (magnitude >> 13 & 1)) >> 13));
}

inline u16 float_to_bfloat(f32 value) {
    const u32 bits = bits_of(value);
    return u16(value != value ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// A float16 operand or result; computed with as float32, which rounds once for one operation.
struct f16 {
    u16 bits;
    operator f32() const { return half_to_float(bits); }
};
inline f16 half(f32 value) { return {float_to_half(value)}; }

inline int exponent_of(f32 x) { return bits_of(x) >> 23 & 255; }
inline int exponent_of(f64 x) { return int(bits_of(x) >> 52 & 2047); }
template <class T>
bool is_denormal(T x) { return x != 0 && exponent_of(x) == 0; }
inline bool is_signalling(f32 x) { return x != x && (bits_of(x) >> 22 & 1) == 0; }
inline f32 quiet(f32 x) { return is_signalling(x) ? bit_cast<f32>(bits_of(x) | 0x400000u) : x; }
inline bool is_signalling(f64 x) { return x != x && (bits_of(x) >> 51 & 1) == 0; }

// v_max, v_min in IEEE mode: the number wins over a quiet NaN, a signalling NaN over all; -0 < +0.
template <class T>
T number_max(T a, T b) {
    if (is_signalling(a) || is_signalling(b)) return a + b;
    if (a != a) return b != b ? a + b : b;
    if (b != b) return a;
    if (a == 0 && b == 0) return std::signbit(a) ? b : a;
    return a > b ? a : b;
}
template <class T>
T number_min(T a, T b) {
    if (is_signalling(a) || is_signalling(b)) return a + b;
    if (a != a) return b != b ? a + b : b;
    if (b != b) return a;
    if (a == 0 && b == 0) return std::signbit(a) ? a : b;
    return a < b ? a : b;
}
// gfx12's v_max_num, v_min_num, IEEE 754-2019's maximumNumber and minimumNumber: a number wins over any NaN.
template <class T>
T maximum_number(T a, T b) { return a != a && b == b ? b : b != b && a == a ? a : number_max(a, b); }
template <class T>
T minimum_number(T a, T b) { return a != a && b == b ? b : b != b && a == a ? a : number_min(a, b); }
// IEEE 754-2019's maximum, minimum: a NaN wins.
template <class T>
T nan_max(T a, T b) { return a != a || b != b ? a + b : number_max(a, b); }
template <class T>
T nan_min(T a, T b) { return a != a || b != b ? a + b : number_min(a, b); }
template <class T>
T median(T a, T b, T c) { return std::max(std::min(a, b), std::min(std::max(a, b), c)); }
inline f32 median_number(f32 a, f32 b, f32 c) {
    return a != a || b != b || c != c ? number_min(number_min(a, b), c) : median(a, b, c);
}

// Conversion to an integer: truncated, saturated, NaN is 0.
template <class T, class X>
T saturate(X x) {
    if (x != x) return 0;
    if (x <= X(std::numeric_limits<T>::min())) return std::numeric_limits<T>::min();
    if (x >= X(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
    return T(x);
}

inline u32 reverse_bits(u32 x) {
    u32 result = 0;
    for (int i = 0; i < 32; ++i) result |= (x >> i & 1) << (31 - i);
    return result;
}
inline u32 leading_zeros(u32 x) { return x != 0 ? u32(__builtin_clz(x)) : ~0u; }
inline u32 leading_sign(i32 x) { return x == 0 || x == -1 ? ~0u : u32(__builtin_clz(u32(x < 0 ? ~x : x))); }
inline u32 trailing_zeros(u32 x) { return x != 0 ? u32(__builtin_ctz(x)) : ~0u; }

inline u32 bit_field(u32 x, u32 offset, u32 width) {
    return width >= 32 ? x >> offset : x >> offset & ((1u << width) - 1);
}
inline u32 signed_bit_field(u32 x, u32 offset, u32 width) {
    if (width == 0) return 0;
    if (width + offset > 32) width = 32 - offset;
    return u32(i32(x << (32 - width - offset)) >> (32 - width));
}
inline u32 permute_bytes(u32 high, u32 low, u32 selector) {
    const u64 bytes = u64(high) << 32 | low;
    u32 result = 0;
    for (int i = 0; i < 4; ++i) {
        const u32 choice = selector >> 8 * i & 255;
        u32 byte = 255;
        if (choice < 8) byte = u32(bytes >> 8 * choice) & 255;
        else if (choice < 12) byte = u32(bytes >> (16 * (choice - 8) + 15) & 1) * 255;
        else if (choice == 12) byte = 0;
        result |= byte << 8 * i;
    }
    return result;
}
inline u32 bit_operation(u32 a, u32 b, u32 c, u32 table) {
    u32 result = 0;
    for (u32 i = 0; i < 8; ++i)
        if (table >> i & 1) result |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
    return result;
}
inline i32 signed24(u32 x) { return i32(x << 8) >> 8; }

// Which of ten classes a number is in: v_cmp_class.
template <class T>
bool is_of_class(T x, u32 mask) {
    const bool negative = std::signbit(x);
    int bit;
    if (x != x) bit = is_signalling(x) ? 0 : 1;
    else if (std::isinf(x)) bit = negative ? 2 : 9;
    else if (x == 0) bit = negative ? 5 : 6;
    else if (is_denormal(x)) bit = negative ? 4 : 7;
    else bit = negative ? 3 : 8;
    return mask >> bit & 1;
}

// The hardware's reciprocal and its kin are off by up to 1 unit in the last place: a setting chooses the
// side, so that a division that relies on the exact one is found out.
int reciprocal_error();
f32 reciprocal(f32 x);
f32 perturbed(f32 x);
f64 coarse(f64 x);

// The steps of a division: scale the operands, correct with the scale in mind, replace special cases.
template <class T>
struct DivisionLimits;
template <>
struct DivisionLimits<f32> {
    static constexpr int kFar = 96, kScale = 64, kTiny = 23, kBias = 127, kUnderflow = 150, kOverflow = 129;
};
template <>
struct DivisionLimits<f64> {
    static constexpr int kFar = 768, kScale = 128, kTiny = 53, kBias = 1023, kUnderflow = 1075,
                         kOverflow = 1025;
};

template <class T>
T division_scale(T which, T denominator, T numerator, bool& scaled) {
    using Limits = DivisionLimits<T>;
    scaled = false;
    if (numerator == 0 || denominator == 0) return std::numeric_limits<T>::quiet_NaN();
    if (!std::isfinite(which) || !std::isfinite(denominator) || !std::isfinite(numerator)) return which;
    const bool of_denominator = bits_of(which) == bits_of(denominator);
    const bool of_numerator = bits_of(which) == bits_of(numerator);
    if (exponent_of(numerator) - exponent_of(denominator) >= Limits::kFar) {
        scaled = true;
        return of_denominator ? std::ldexp(which, Limits::kScale) : which;
    }
    if (is_denormal(denominator)) return std::ldexp(which, Limits::kScale);
    const T quotient = numerator / denominator;
    if (is_denormal(T(1) / denominator)) {
        if (!is_denormal(quotient)) return std::ldexp(which, -Limits::kScale);
        scaled = true;
        return of_denominator ? std::ldexp(which, Limits::kScale) : which;
    }
    if (is_denormal(quotient) || quotient == 0) {
        scaled = true;
        return of_numerator ? std::ldexp(which, Limits::kScale) : which;
    }
    return exponent_of(numerator) <= Limits::kTiny ? std::ldexp(which, Limits::kScale) : which;
}

template <class T>
T division_step(T a, T b, T c, bool scaled) {
    using Limits = DivisionLimits<T>;
    if (!scaled) return std::fma(a, b, c);
    const int exponent = exponent_of(c) > Limits::kBias ? Limits::kScale : -Limits::kScale;
    __float128 exact = static_cast<__float128>(a) * b + c;
    for (int i = 0; i < Limits::kScale; ++i) exact = exponent > 0 ? exact * 2 : exact / 2;
    return T(exact);
}

template <class T>
T division_fixup(T quotient, T denominator, T numerator) {
    using Limits = DivisionLimits<T>;
    const bool negative = std::signbit(denominator) != std::signbit(numerator);
    const T infinity = std::numeric_limits<T>::infinity();
    if (numerator != numerator) return numerator + numerator;
    if (denominator != denominator) return denominator + denominator;
    if ((denominator == 0 && numerator == 0) || (std::isinf(denominator) && std::isinf(numerator)))
        return std::numeric_limits<T>::quiet_NaN();
    if (denominator == 0 || std::isinf(numerator)) return negative ? -infinity : infinity;
    if (std::isinf(denominator) || numerator == 0) return negative ? -T(0) : T(0);
    const int exponent = exponent_of(numerator) - exponent_of(denominator);
    if (exponent < -Limits::kUnderflow) return negative ? -T(0) : T(0);
    // Steps that overflow on the way give a NaN. Not in AMD's pseudocode; but LLVM's division relies on it.
    if (exponent > Limits::kOverflow) return negative ? -infinity : infinity;
    return negative ? -std::fabs(quotient) : std::fabs(quotient);
}

}  // namespace hipcomm::amd
