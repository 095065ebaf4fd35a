/* Reductions over packs, or any other run of words, in rank order: start() with rank 0's pack, add() those of
 * 1, 2, ..., then finish(). Every algorithm reduces through this file, so all of them give the same bits. */
#pragma once

#include "float8.h"

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

template <class T, class Op, class Bits = Pack>
struct Reduction {
    static constexpr int kElements = sizeof(Bits) / sizeof(T);
    static_assert(sizeof(Bits) % sizeof(T) == 0);
    struct Elements {
        T at[kElements];
    };
    Accumulated<T> total[kElements]{};

    DEVICE_MEMBER void start(Bits bits, const hipcommKernelArgs&) {
        const Elements elements = __builtin_bit_cast(Elements, bits);
        UNROLL(16)
        for (int i = 0; i < kElements; ++i) total[i] = widen(elements.at[i]);
    }
    DEVICE_MEMBER void add(Bits bits, const hipcommKernelArgs&) {
        const Elements elements = __builtin_bit_cast(Elements, bits);
        UNROLL(16)
        for (int i = 0; i < kElements; ++i)
            total[i] = Op::template combine<T>(total[i], widen(elements.at[i]));
    }
    /* start() or add(), for a loop over the ranks that is not unrolled. */
    DEVICE_MEMBER void start_or_add(bool first, Bits bits, const hipcommKernelArgs& args) {
        if (first)
            start(bits, args);
        else
            add(bits, args);
    }
    /* Round to T; for an average divide first. One branch for all elements: a branch around each division
     * cost 1.6 us of instruction fetches on an H200. */
    DEVICE_MEMBER Bits finish(const hipcommKernelArgs& args) {
        if (UNLIKELY(args.average)) {
            UNROLL(16)
            for (int i = 0; i < kElements; ++i) total[i] = divide<T>(total[i], args.world);
        }
        Elements elements;
        UNROLL(16)
        for (int i = 0; i < kElements; ++i) elements.at[i] = narrow_to(total[i], static_cast<T*>(nullptr));
        return __builtin_bit_cast(Bits, elements);
    }
};

/* The 8-bit floats: format and reduction are in the arguments. */
struct Float8 {
    uint8_t bits;
};
struct AnyOperation {};

/* Whether an operation is a type, or chosen by the arguments. */
template <class Op>
constexpr bool kChosenByType = true;
template <>
constexpr bool kChosenByType<AnyOperation> = false;

template <class Bits>
struct Reduction<Float8, AnyOperation, Bits> {
    static constexpr int kElements = sizeof(Bits);
    struct Elements {
        uint8_t at[kElements];
    };
    float total[kElements]{};

    DEVICE_MEMBER void start(Bits bits, const hipcommKernelArgs& args) {
        const Float8Format format = float8_format(args);
        const Elements elements = __builtin_bit_cast(Elements, bits);
        UNROLL(16)
        for (int i = 0; i < kElements; ++i)
            total[i] = widen_float8(elements.at[i], format);
    }
    /* All reductions at once, and then a choice: four loops, one for each, cost more registers. */
    DEVICE_MEMBER void add(Bits bits, const hipcommKernelArgs& args) {
        const Float8Format format = float8_format(args);
        const uint32_t reduction = in_vector_register(reload_args(args).float8.reduction);
        const Elements elements = __builtin_bit_cast(Elements, bits);
        UNROLL(16)
        for (int i = 0; i < kElements; ++i) {
            const float a = total[i], b = widen_float8(elements.at[i], format);
            const float extreme =
                reduction == hipcommReductionMax ? Max::combine<float>(a, b) : Min::combine<float>(a, b);
            const float ordered = reduction == hipcommReductionProd ? Prod::combine<float>(a, b) : extreme;
            total[i] = reduction == hipcommReductionSum ? Sum::combine<float>(a, b) : ordered;
            one_by_one();
        }
    }
    DEVICE_MEMBER void start_or_add(bool first, Bits bits, const hipcommKernelArgs& args) {
        if (first)
            start(bits, args);
        else
            add(bits, args);
    }
    DEVICE_MEMBER Bits finish(const hipcommKernelArgs& args) {
        const Float8Format format = float8_format(args);
        if (UNLIKELY(args.average)) {
            UNROLL(16)
            for (int i = 0; i < kElements; ++i) {
                total[i] = divide<float>(total[i], args.world);
                one_by_one();
            }
        }
        Elements elements;
        UNROLL(16)
        for (int i = 0; i < kElements; ++i) {
            elements.at[i] = narrow_to_float8(total[i], format);
            one_by_one();
        }
        return __builtin_bit_cast(Bits, elements);
    }
};
