/* The epilogue: what follows the sum over ranks. One row at a time: load its slices, add the residual, sum up, write the
 * outputs. Every fused algorithm and the local operation end in finish_row(); they differ in where a slice of the sum
 * comes from, which is what a Source says:
 *
 *     load(i, sum)    slice i of the sum over ranks, rounded to T; anything past the row's end; once for each slice
 *     kWithResidual   the residual has been added already
 *     failed()        after a barrier: it gave up waiting, and nothing may be written
 *     keep(i, v)      slice i with the residual, which the block's shared memory has no room for,
 *     again(i, v)     and what has been kept; or it is made anew, which is possible until outputs are written
 */
#pragma once

#include "../numbers/tree.h"
#include "slices.h"

enum class Norm { kRms, kLayer };

/* The arguments at the start of a sweep: nothing that earlier ones have computed from them stays alive in registers. */
DEVICE const hipcommNormArgs& new_sweep(const hipcommNormArgs& args) {
    return reinterpret_cast<const hipcommNormArgs&>(reload_args(args.common));
}

/* Slice i of row `row`: v. */
template <class T>
DEVICE void add_residual_slice(const hipcommNormArgs& args, uint64_t row, uint32_t i, Slice<T>& v) {
    if (!args.residual) return;
    Slice<T> residual;
    load_slice(row_of<T>(args.residual, args.residual_stride, row, args.hidden), i, residual);
    UNROLL(8)
    for (uint32_t e = 0; e < kSlice<T>; ++e) v.at[e] = add_residual(v.at[e], residual.at[e]);
}

/* What a block has for its rows. */
struct RowMemory {
    const Geometry& geometry;
    float* partials; /* of two sums */
    char* kept;      /* slices of the row, [pass][thread] */
    uint32_t turn = 0;

    /* For the next sum: the partials that the last one did not use. */
    DEVICE_MEMBER RowSum new_sum() {
        turn ^= 1;
        return {geometry, partials + turn * kMostPartials};
    }
};

/* In the block's scratch behind its state. */
DEVICE RowMemory row_memory(const Geometry& g) {
    char* const partials = g.shared + HIPCOMM_BLOCK_STATE_BYTES;
    return {g, reinterpret_cast<float*>(partials), partials + 2 * kMostPartials * sizeof(float)};
}

/* v of a row: made in the first sweep, and kept. */
template <class T, class Source>
struct RowValues {
    const hipcommNormArgs& args;
    Source& source;
    const uint64_t row;
    Slice<T>* const kept;

    DEVICE_MEMBER void first(uint32_t i, Slice<T>& v) const {
        source.load(i, v);
        if (!Source::kWithResidual) add_residual_slice(args, row, i, v);
        if (i < args.kept_slices)
            kept[i] = v;
        else
            source.keep(i, v);
    }
    DEVICE_MEMBER void again(uint32_t i, Slice<T>& v) const {
        if (i < args.kept_slices)
            v = kept[i];
        else
            source.again(i, v);
    }
};

/* A sum over the row of term(element) of slices that load(slice, v) has; all threads. */
template <class T, class Load, class Term>
DEVICE float sum_over_row(RowMemory& memory, uint32_t hidden, Load load, Term term) {
    const Geometry& g = memory.geometry;
    RowSum sum = memory.new_sum();
    NO_UNROLL
    for (uint32_t begin = 0; begin < slices_of<T>(hidden); begin += g.threads) {
        const uint32_t i = begin + g.thread;
        float terms[kSlice<T>];
        UNROLL(8)
        for (float& t : terms) t = 0.0f;
        if (i < slices_of<T>(hidden)) {
            Slice<T> v;
            load(i, v);
            const uint32_t left = hidden - i * kSlice<T>; /* elements; those past the end count as +0 */
            UNROLL(8)
            for (uint32_t e = 0; e < kSlice<T>; ++e) {
                const float t = term(widen(v.at[e]));
                terms[e] = e < left ? t : 0.0f;
            }
        }
        sum.add(subtree(terms));
    }
    return sum.total();
}

/* The last sweep: what goes into the caller's arrays. */
template <class T, Norm kNorm, class Values>
DEVICE void write_row(RowMemory& memory, const hipcommNormArgs& args, uint64_t row, float mean, float s,
                      const Values& values) {
    const uint32_t hidden = args.hidden;
    const Geometry& g = memory.geometry;
    const Message out = row_of<T>(args.out, args.out_stride, row, hidden);
    const Message residual_out = row_of<T>(args.residual_out, args.residual_out_stride, row, hidden);
    NO_UNROLL
    for (uint32_t i = g.thread; i < slices_of<T>(hidden); i += g.threads) {
        Slice<T> v, y;
        values.again(i, v);
        if (args.residual_out) store_slice(residual_out, i, v);
        if (!args.out) continue;
        float weight[kSlice<T>], bias[kSlice<T>];
        load_parameters<T>(args.weight, args.weight_is_float32, 1.0f, hidden, i, weight);
        UNROLL(8)
        for (uint32_t e = 0; e < kSlice<T>; ++e) {
            const float centred = kNorm == Norm::kRms ? widen(v.at[e]) : widen(v.at[e]) - mean;
            weight[e] = scaled(centred, s, weight[e] + args.weight_offset);
        }
        if (kNorm == Norm::kLayer && args.bias) {
            load_parameters<T>(args.bias, args.bias_is_float32, 0.0f, hidden, i, bias);
            UNROLL(8)
            for (uint32_t e = 0; e < kSlice<T>; ++e) weight[e] = weight[e] + bias[e];
        }
        UNROLL(8)
        for (uint32_t e = 0; e < kSlice<T>; ++e) y.at[e] = narrow_to(weight[e], static_cast<T*>(nullptr));
        store_slice(out, i, y);
    }
}

/* All threads: row `row`, as written to the caller's arrays; false in all of them if the source gave up. */
template <class T, Norm kNorm, class Source>
DEVICE bool finish_row(RowMemory& memory, const hipcommNormArgs& args, uint64_t row, Source source) {
    const uint32_t hidden = args.hidden;
    const RowValues<T, Source> values{args, source, row, reinterpret_cast<Slice<T>*>(memory.kept)};
    const auto first = [&](uint32_t i, Slice<T>& v) { values.first(i, v); };
    const auto again = [&](uint32_t i, Slice<T>& v) { values.again(i, v); };

    float mean = 0.0f, squares;
    if constexpr (kNorm == Norm::kRms) {
        squares = sum_over_row<T>(memory, hidden, first, [](float v) { return v * v; });
        if (source.failed()) return false;
    } else {
        mean = mean_of(sum_over_row<T>(memory, hidden, first, [](float v) { return v; }), hidden);
        if (source.failed()) return false;
        squares = sum_over_row<T>(memory, hidden, again,
                                  [=](float v) { return (v - mean) * (v - mean); });
    }
    const float s = inverse_deviation(squares, hidden, args.eps);
    write_row<T, kNorm>(memory, new_sweep(args), row, mean, s, values);
    return true;
}

/* One kernel for each norm and type, named <algorithm>_<norm>_<dtype>. */
#define NORM_KERNEL(algorithm, norm, Norm_, dtype, T, most_threads) \
    KERNEL(hipcomm_##algorithm##_##norm##_##dtype, (algorithm<T, Norm_>), hipcommNormArgs, most_threads)
#define NORM_KERNELS(algorithm, most_threads)                                         \
    NORM_KERNEL(algorithm, rms, Norm::kRms, float16, float16, most_threads)           \
    NORM_KERNEL(algorithm, rms, Norm::kRms, bfloat16, bfloat16, most_threads)         \
    NORM_KERNEL(algorithm, rms, Norm::kRms, float32, float, most_threads)             \
    NORM_KERNEL(algorithm, layer, Norm::kLayer, float16, float16, most_threads)       \
    NORM_KERNEL(algorithm, layer, Norm::kLayer, bfloat16, bfloat16, most_threads)     \
    NORM_KERNEL(algorithm, layer, Norm::kLayer, float32, float, most_threads)
