/* Outputs: what is written of a row, a slice at a time. Every kernel of norms writes through here. */
#pragma once

#include "slices.h"

/* What a kernel makes of which rows: one of the norms, of simple rows (pieces.h); or of any rows what its arguments say,
 * either norm, with or without quantised outputs. One kernel for all of that: as one each they took most of the time in
 * which the norms were compiled. */
struct Norm {
    bool is_layer, is_any;
};
constexpr Norm kRmsNorm = {false, false}, kLayerNorm = {true, false}, kAnyNorm = {false, true};

template <Norm kNorm>
DEVICE bool is_layer(const hipcommNormArgs& args) {
    return kNorm.is_any ? args.is_layer : kNorm.is_layer;
}
template <Norm kNorm>
DEVICE bool quantises(const hipcommNormArgs& args) {
    return kNorm.is_any && args.quantised.format != hipcommNormFormatNone;
}

/* A slice of the weight or the bias as it lies in memory. To be loaded before what it is needed after, so that its
 * latency is hidden; widened only then, for that waits for it. */
template <class T>
struct Parameters {
    struct Loaded {
        float at[kSlice<T>]; /* float32, or of the rows' type in the first bytes */
    } loaded;

    template <bool kSimple>
    DEVICE_MEMBER void load(const void* parameters, bool is_float32, uint32_t hidden, uint32_t i) {
        if (!parameters) return;
        if (is_float32) {
            load_run<kSimple>(message(parameters, uint64_t(hidden) * sizeof(float)), i, loaded.at);
        } else {
            Slice<T> slice;
            load_slice<kSimple>(message(parameters, uint64_t(hidden) * sizeof(T)), i, slice);
            __builtin_memcpy(&loaded, &slice, sizeof slice);
        }
        hold(loaded);
    }
    /* `missing` where there are none. */
    DEVICE_MEMBER void widen_to(const void* parameters, bool is_float32, float missing, float (&values)[kSlice<T>]) const {
        if (!parameters) {
            UNROLL(8)
            for (float& value : values) value = missing;
        } else if (is_float32) {
            UNROLL(8)
            for (uint32_t e = 0; e < kSlice<T>; ++e) values[e] = loaded.at[e];
        } else {
            Slice<T> slice;
            __builtin_memcpy(&slice, &loaded, sizeof slice);
            UNROLL(8)
            for (uint32_t e = 0; e < kSlice<T>; ++e) values[e] = widen(slice.at[e]);
        }
    }
};

template <class T, Norm kNorm, bool kSimple>
struct Affine {
    Parameters<T> weight, bias;

    DEVICE_MEMBER void load(const hipcommNormArgs& args, uint32_t i) {
        if (!args.out && !quantises<kNorm>(args)) return;
        weight.template load<kSimple>(args.weight, args.weight_is_float32, args.hidden, i);
        if (is_layer<kNorm>(args)) bias.template load<kSimple>(args.bias, args.bias_is_float32, args.hidden, i);
    }
};

/* What a row's sums make of its elements. */
struct Statistics {
    float mean; /* of RMSNorm 0: to subtract that changes no bit */
    float s;
};

/* The norm of a slice v; past the row's end it is anything. */
template <class T, Norm kNorm, bool kSimple>
DEVICE void norm_slice(const hipcommNormArgs& args, const Slice<T>& v, const Affine<T, kNorm, kSimple>& affine,
                       const Statistics& of_row, Slice<T>& rounded) {
    float y[kSlice<T>], bias[kSlice<T>];
    affine.weight.widen_to(args.weight, args.weight_is_float32, 1.0f, y);
    UNROLL(8)
    for (uint32_t e = 0; e < kSlice<T>; ++e) {
        const float centred = !kNorm.is_layer && !kNorm.is_any ? widen(v.at[e]) : widen(v.at[e]) - of_row.mean;
        y[e] = scaled(centred, of_row.s, y[e] + args.weight_offset);
    }
    if (is_layer<kNorm>(args) && args.bias) {
        affine.bias.widen_to(args.bias, args.bias_is_float32, 0.0f, bias);
        UNROLL(8)
        for (uint32_t e = 0; e < kSlice<T>; ++e) y[e] = y[e] + bias[e];
    }
    round_to(y, rounded);
}

/* Slice i of row `row`, v with the residual, into the caller's arrays. */
template <class T, Norm kNorm, bool kSimple>
DEVICE void write_slice(const hipcommNormArgs& args, uint64_t row, uint32_t i, const Slice<T>& v,
                        const Affine<T, kNorm, kSimple>& affine, const Statistics& of_row) {
    const uint32_t hidden = args.hidden;
    if (args.residual_out) store_slice<kSimple>(row_of<T>(args.residual_out, args.residual_out_stride, row, hidden), i, v);
    if (!args.out) return;
    Slice<T> rounded;
    norm_slice<T, kNorm>(args, v, affine, of_row, rounded);
    store_slice<kSimple>(row_of<T>(args.out, args.out_stride, row, hidden), i, rounded);
}
