/* The epilogue: what follows the sum over ranks. One row at a time: load its pieces, add the residual, sum up, write the
 * outputs. Fused algorithms and the local operation end in finish_row(); they differ in where a piece of the sum comes
 * from, which is what a Source says, and in how sums of pieces become one of the row (row_sums.h).
 *
 *     load(pieces, i, v)   piece i of the sum over ranks, rounded to T; anything past the row's end; once for each piece
 *     kWithResidual        the residual has been added already
 *     keep(i, v)           slice i with the residual, which the block's shared memory has no room for,
 *     again(i, v)          and what has been kept; or it is made anew, which is possible until outputs are written
 */
#pragma once

#include "quantised_outputs.h"

template <class T, uint32_t kOfLane>
DEVICE void add_residual_piece(Slice<T> (&v)[kOfLane], const Slice<T> (&residual)[kOfLane]) {
    UNROLL(4)
    for (uint32_t p = 0; p < kOfLane; ++p) add_residual_slice(v[p], residual[p]);
}

template <class T, uint32_t kOfLane, bool kSimple>
DEVICE void load_residual(const hipcommNormArgs& args, uint64_t row, const Pieces<kOfLane, kSimple>& pieces, uint32_t piece,
                          Slice<T> (&residual)[kOfLane]) {
    load_piece(row_of<T>(args.residual, args.residual_stride, row, args.hidden), pieces, piece, residual);
}

/* v of a warp's pieces of a row, where it has several: in the block's shared memory, [slice][thread], as far as it goes. */
template <class T, uint32_t kOfLane, bool kSimple, class Source>
struct KeptPieces {
    const hipcommNormArgs& args;
    const Geometry& geometry;
    const Pieces<kOfLane, kSimple>& pieces;
    const Source& source;

    /* Where in shared memory slice p is; or kept nowhere. */
    DEVICE_MEMBER Slice<T>* place(uint32_t piece, uint32_t p) const {
        const uint32_t slice = (piece / pieces.stride * kOfLane + p) * geometry.threads + geometry.thread;
        auto* const kept = reinterpret_cast<Slice<T>*>(geometry.shared + HIPCOMM_BLOCK_STATE_BYTES + kBlockSumsBytes);
        return slice < args.kept_slices ? kept + slice : nullptr;
    }
    DEVICE_MEMBER void put(uint32_t piece, const Slice<T> (&v)[kOfLane]) const {
        UNROLL(4)
        for (uint32_t p = 0; p < kOfLane; ++p) {
            const uint32_t i = pieces.slice(piece, p);
            if (Slice<T>* const at = place(piece, p))
                *at = v[p];
            else if (i < slices_of<T>(args.hidden))
                source.keep(i, v[p]);
        }
    }
    DEVICE_MEMBER void get(uint32_t piece, Slice<T> (&v)[kOfLane]) const {
        UNROLL(4)
        for (uint32_t p = 0; p < kOfLane; ++p) {
            const uint32_t i = pieces.slice(piece, p);
            if (const Slice<T>* const at = place(piece, p))
                v[p] = *at;
            else if (i < slices_of<T>(args.hidden))
                source.again(i, v[p]);
        }
    }
};

/* All threads that have the row: row `row` of the call, the row-th `of_sums` of those that sums can tell apart, into the
 * caller's arrays. False in all lanes of a warp if the block has failed, and nothing is written. */
template <class T, Norm kNorm, uint32_t kOfLane, bool kSimple, class Source, class Sums>
DEVICE bool finish_row(const hipcommNormArgs& args, const Geometry& g, const Pieces<kOfLane, kSimple>& pieces,
                       uint64_t row, uint64_t of_sums, const Source& source, Sums& sums) {
    const uint32_t hidden = args.hidden, of_row = pieces.of_row;
    const bool several = pieces.are_several();
    const KeptPieces<T, kOfLane, kSimple, Source> kept{args, g, pieces, source};
    Slice<T> v[kOfLane];

    const auto post = [&](uint32_t which, uint32_t piece, auto term) IN_LINE {
        return sums.post(of_sums, which, of_row, piece, sum_of_piece<T>(pieces, piece, hidden, v, term));
    };
    const bool centres = is_layer<kNorm>(args);
    const bool first_posted = pieces.each([&](uint32_t piece) IN_LINE {
        Slice<T> residual[kOfLane];
        const bool adds = !Source::kWithResidual && args.residual;
        if (adds) load_residual<T>(args, row, pieces, piece, residual);
        source.load(pieces, piece, v);
        if (adds) add_residual_piece<T>(v, residual);
        hold(v);
        if (several) kept.put(piece, v);
        return centres ? post(0, piece, [](float x) { return x; }) : post(0, piece, [](float x) { return x * x; });
    });
    if (!first_posted) return false;

    /* The parameters are loaded before the wait for the sum: early, if they have their place in registers meanwhile. */
    constexpr bool kEarly = !kOneThread && kOfLane <= 2 && !kNorm.is_any;
    Affine<T, kNorm, kSimple> affine[kOfLane];
    const auto load_affine = [&](uint32_t piece) IN_LINE {
        UNROLL(4)
        for (uint32_t p = 0; p < kOfLane; ++p) affine[p].load(args, pieces.slice(piece, p));
    };
    const bool early = kEarly && !several && pieces.first < of_row;
    if (!centres && early) load_affine(pieces.first);

    Statistics statistics{0.0f, 0.0f};
    float squares;
    if (!sums.total(of_sums, 0, of_row, squares)) return false;
    hold(v);
    if (centres) {
        const float mean = statistics.mean = mean_of(squares, hidden);
        const bool second_posted = pieces.each([&](uint32_t piece) IN_LINE {
            if (several) kept.get(piece, v);
            return post(1, piece, [=](float x) IN_LINE { return (x - mean) * (x - mean); });
        });
        if (!second_posted) return false;
        if (early) load_affine(pieces.first);
        if (!sums.total(of_sums, 1, of_row, squares)) return false;
    }
    statistics.s = inverse_deviation(squares, hidden, args.eps);

    if constexpr (kNorm.is_any) {
        const auto make = [&](uint32_t piece, Slice<T>(&y)[kOfLane]) IN_LINE {
            if (several) kept.get(piece, v);
            if (!early) load_affine(piece);
            UNROLL(4)
            for (uint32_t p = 0; p < kOfLane; ++p)
                norm_slice<T, kNorm>(new_sweep(args), v[p], affine[p], statistics, y[p]);
        };
        if (quantises<kNorm>(args)) return write_quantised<T>(args, pieces, row, of_sums, v, sums, make);
    }
    pieces.each([&](uint32_t piece) IN_LINE {
        if (several) kept.get(piece, v);
        if (kEarly && several) load_affine(piece);
        UNROLL(4)
        for (uint32_t p = 0; p < kOfLane; ++p) {
            const uint32_t i = pieces.slice(piece, p);
            if (i >= slices_of<T>(hidden)) continue;
            const hipcommNormArgs& now = new_sweep(args);
            if (!kEarly) affine[p].load(now, i);
            write_slice<T, kNorm, kSimple>(now, row, i, v[p], affine[p], statistics);
            one_by_one();
        }
        return true;
    });
    return true;
}

/* Kernels <algorithm>_<norm>_<dtype>, and for what only one kind of kernel does <algorithm>_<dtype>. Where a block is one
 * thread no rows are simple: those kernels are that for any rows. */
#define NORM_KERNEL(algorithm, name, kNorm, dtype, T, most_threads) \
    KERNEL(hipcomm_##algorithm##name##_##dtype, (algorithm<T, kNorm>), hipcommNormArgs, most_threads)
#define NORM_KERNELS_OF(algorithm, name, kNorm, most_threads)           \
    NORM_KERNEL(algorithm, name, kNorm, float16, float16, most_threads)   \
    NORM_KERNEL(algorithm, name, kNorm, bfloat16, bfloat16, most_threads) \
    NORM_KERNEL(algorithm, name, kNorm, float32, float, most_threads)
#define NORM_KERNELS(algorithm, most_threads)                                                   \
    NORM_KERNELS_OF(algorithm, _rms, (kOneThread ? kAnyNorm : kRmsNorm), most_threads)     \
    NORM_KERNELS_OF(algorithm, _layer, (kOneThread ? kAnyNorm : kLayerNorm), most_threads) \
    NORM_KERNELS_OF(algorithm, _any, kAnyNorm, most_threads)
#define ANY_NORM_KERNELS(algorithm, most_threads) NORM_KERNELS_OF(algorithm, , kAnyNorm, most_threads)
