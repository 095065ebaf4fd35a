/* Reductions over packs, in rank order: start() with rank 0's pack, add() those of 1, 2, ..., then
 * finish(). Every algorithm reduces through this file, so all of them give the same bits. */
#pragma once

#include "dtype.h"

struct Sum {
    template <class T>
    DEVICE_MEMBER static Accumulated<T> combine(Accumulated<T> a, Accumulated<T> b) {
        return Accumulated<T>(a + b);
    }
};
struct Prod {
    template <class T>
    DEVICE_MEMBER static Accumulated<T> combine(Accumulated<T> a, Accumulated<T> b) {
        return Accumulated<T>(a * b);
    }
};

/* IEEE 754-2019 maximum and minimum: a NaN wins, -0 < +0. */
DEVICE float maximum(float a, float b) { return float_maximum(a, b); }
DEVICE float minimum(float a, float b) { return float_minimum(a, b); }
DEVICE double maximum(double a, double b) { return float_maximum(a, b); }
DEVICE double minimum(double a, double b) { return float_minimum(a, b); }
template <class I>
DEVICE I maximum(I a, I b) {
    return a > b ? a : b;
}
template <class I>
DEVICE I minimum(I a, I b) {
    return a < b ? a : b;
}

/* Ordered operations compare as T (signed integers as signed), floats as the accumulator. */
template <class T>
struct Ordered {
    using Type = T;
};
template <>
struct Ordered<float16> {
    using Type = float;
};
template <>
struct Ordered<bfloat16> {
    using Type = float;
};
struct Max {
    template <class T>
    DEVICE_MEMBER static Accumulated<T> combine(Accumulated<T> a, Accumulated<T> b) {
        using O = typename Ordered<T>::Type;
        return static_cast<Accumulated<T>>(maximum(static_cast<O>(a), static_cast<O>(b)));
    }
};
struct Min {
    template <class T>
    DEVICE_MEMBER static Accumulated<T> combine(Accumulated<T> a, Accumulated<T> b) {
        using O = typename Ordered<T>::Type;
        return static_cast<Accumulated<T>>(minimum(static_cast<O>(a), static_cast<O>(b)));
    }
};

/* sum / world: correctly rounded for floats, truncated toward zero for integers. */
template <class T>
DEVICE Accumulated<T> divide(Accumulated<T> sum, uint32_t world) {
    using O = typename Ordered<T>::Type;
    return static_cast<Accumulated<T>>(static_cast<O>(static_cast<O>(sum) / static_cast<O>(world)));
}

template <class T, class Op>
struct Reduction {
    static constexpr int kElements = HIPCOMM_PACK_BYTES / sizeof(T);
    struct Elements {
        T at[kElements];
    };
    Accumulated<T> total[kElements]{};

    DEVICE_MEMBER void start(Pack pack) {
        const Elements elements = __builtin_bit_cast(Elements, pack);
        UNROLL(16)
        for (int i = 0; i < kElements; ++i) total[i] = widen(elements.at[i]);
    }
    DEVICE_MEMBER void add(Pack pack) {
        const Elements elements = __builtin_bit_cast(Elements, pack);
        UNROLL(16)
        for (int i = 0; i < kElements; ++i)
            total[i] = Op::template combine<T>(total[i], widen(elements.at[i]));
    }
    /* start() or add(), for a loop over the ranks that is not unrolled. */
    DEVICE_MEMBER void start_or_add(bool first, Pack pack) {
        if (first)
            start(pack);
        else
            add(pack);
    }
    /* Round to T; for an average divide first. One branch for all elements: a branch around each division
     * cost 1.6 us of instruction fetches on an H200. */
    DEVICE_MEMBER Pack finish(const hipcommKernelArgs& args) {
        if (UNLIKELY(args.average)) {
            UNROLL(16)
            for (int i = 0; i < kElements; ++i) total[i] = divide<T>(total[i], args.world);
        }
        Elements elements;
        UNROLL(16)
        for (int i = 0; i < kElements; ++i) elements.at[i] = narrow_to(total[i], static_cast<T*>(nullptr));
        return __builtin_bit_cast(Pack, elements);
    }
};

/* One kernel per element type and operation, named <algorithm>_<operation>_<dtype>. The average is the
 * sum's kernel with args.average set. hipcomm/native/kernels.c lists the same names. */
#define HIPCOMM_REDUCTION_KERNELS_OF(algorithm, op, Op)                        \
    KERNEL(hipcomm_##algorithm##_##op##_float16, (algorithm<float16, Op>))     \
    KERNEL(hipcomm_##algorithm##_##op##_bfloat16, (algorithm<bfloat16, Op>))   \
    KERNEL(hipcomm_##algorithm##_##op##_float32, (algorithm<float, Op>))       \
    KERNEL(hipcomm_##algorithm##_##op##_float64, (algorithm<double, Op>))      \
    KERNEL(hipcomm_##algorithm##_##op##_int8, (algorithm<int8_t, Op>))         \
    KERNEL(hipcomm_##algorithm##_##op##_uint8, (algorithm<uint8_t, Op>))       \
    KERNEL(hipcomm_##algorithm##_##op##_int32, (algorithm<int32_t, Op>))       \
    KERNEL(hipcomm_##algorithm##_##op##_uint32, (algorithm<uint32_t, Op>))     \
    KERNEL(hipcomm_##algorithm##_##op##_int64, (algorithm<int64_t, Op>))       \
    KERNEL(hipcomm_##algorithm##_##op##_uint64, (algorithm<uint64_t, Op>))

#define HIPCOMM_REDUCTION_KERNELS(algorithm)             \
    HIPCOMM_REDUCTION_KERNELS_OF(algorithm, sum, Sum)    \
    HIPCOMM_REDUCTION_KERNELS_OF(algorithm, prod, Prod)  \
    HIPCOMM_REDUCTION_KERNELS_OF(algorithm, max, Max)    \
    HIPCOMM_REDUCTION_KERNELS_OF(algorithm, min, Min)
