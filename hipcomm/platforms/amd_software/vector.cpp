// Vector arithmetic: the table of vector.def.
#include "lanes.h"

namespace hipcomm::amd {
namespace {

Carried<u32> sum(u32 a, u32 b, u32 carry) {
    const u64 result = u64(a) + b + carry;
    return {u32(result), (result >> 32) != 0};
}
Carried<u32> difference(u32 a, u32 b, u32 borrow) { return {a - b - borrow, u64(a) < u64(b) + borrow}; }
Carried<u64> wide_sum(u64 product, u64 c) {
    u64 result;
    const bool carry = __builtin_add_overflow(product, c, &result);
    return {result, carry};
}
Carried<u64> wide_sum(i64 product, i64 c) {  // the carry is bit 64 of the sum
    const __int128 result = __int128(product) + c;
    return {u64(result), result < 0};
}
template <class T>
Carried<T> scaled(T which, T denominator, T numerator) {
    bool is_scaled = false;
    const T value = division_scale(which, denominator, numerator, is_scaled);
    return {value, is_scaled};
}
// v_mad_f32 and its kin flush denormals, whatever the mode says.
f32 flushed(f32 x) { return is_denormal(x) ? std::copysign(0.0f, x) : x; }
f32 flushing_mad(f32 a, f32 b, f32 c) {
    return flushed(flushed(flushed(a) * flushed(b)) + flushed(c));
}

#define LANES1_(name, D, A, expression, traits) D name(A a) { return expression; }
#define LANES2_(name, D, A, B, expression, traits) D name(A a, B b) { return expression; }
#define LANES3_(name, D, A, B, C, expression, traits) D name(A a, B b, C c) { return expression; }
#define LANES4_(name, D, A, B, C, E, expression, traits) D name(A a, B b, C c, E d) { return expression; }
#define LANES1(name, D, A, expression) LANES1_(name, D, A, expression, 0)
#define LANES2(name, D, A, B, expression) LANES2_(name, D, A, B, expression, 0)
#define LANES3(name, D, A, B, C, expression) LANES3_(name, D, A, B, C, expression, 0)
#define COMPARE(predicate, suffix, T, expression)                                  \
    LANES2_(v_cmp_##predicate##_##suffix, bool, T, T, expression, 0)               \
    LANES2_(v_cmpx_##predicate##_##suffix, bool, T, T, expression, kWritesExec)
#define COMPARE_INTEGERS(suffix, T)         \
    COMPARE(lt, suffix, T, a < b)           \
    COMPARE(eq, suffix, T, a == b)          \
    COMPARE(le, suffix, T, a <= b)          \
    COMPARE(gt, suffix, T, a > b)           \
    COMPARE(ne, suffix, T, a != b)          \
    COMPARE(ge, suffix, T, a >= b)
#define COMPARE_FLOATS(suffix, T)                           \
    COMPARE(lt, suffix, T, a < b)                           \
    COMPARE(eq, suffix, T, a == b)                          \
    COMPARE(le, suffix, T, a <= b)                          \
    COMPARE(gt, suffix, T, a > b)                           \
    COMPARE(lg, suffix, T, a < b || a > b)                  \
    COMPARE(ge, suffix, T, a >= b)                          \
    COMPARE(o, suffix, T, a == a && b == b)                 \
    COMPARE(u, suffix, T, !(a == a && b == b))              \
    COMPARE(nge, suffix, T, !(a >= b))                      \
    COMPARE(nlg, suffix, T, !(a < b || a > b))              \
    COMPARE(ngt, suffix, T, !(a > b))                       \
    COMPARE(nle, suffix, T, !(a <= b))                      \
    COMPARE(neq, suffix, T, !(a == b))                      \
    COMPARE(nlt, suffix, T, !(a < b))
#include "vector.def"
#undef LANES1_
#undef LANES2_
#undef LANES3_
#undef LANES4_

#define LANES1_(name, D, A, expression, traits) Lanes<&name>::describe(#name, traits),
#define LANES2_(name, D, A, B, expression, traits) Lanes<&name>::describe(#name, traits),
#define LANES3_(name, D, A, B, C, expression, traits) Lanes<&name>::describe(#name, traits),
#define LANES4_(name, D, A, B, C, E, expression, traits) Lanes<&name>::describe(#name, traits),
constexpr Operation kOperations[] = {
#include "vector.def"
};

}  // namespace

Operations vector_operations() { return {kOperations, sizeof kOperations / sizeof *kOperations}; }

}  // namespace hipcomm::amd
