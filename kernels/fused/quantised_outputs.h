/* The last sweep over a row that is quantised: its outputs in T, codes and scales. */
#pragma once

#include "codes.h"
#include "outputs.h"

/* Elements that the row has of slice i. */
template <class T>
DEVICE uint32_t left_of(uint32_t hidden, uint32_t i) {
    return i < slices_of<T>(hidden) ? hidden - i * kSlice<T> : 0;
}

/* Elements past the row's end count for nothing. */
template <class T>
DEVICE void clear_past_end(uint32_t left, Slice<T>& y) {
    if (!UNLIKELY(left < kSlice<T>)) return;
    UNROLL(8)
    for (uint32_t e = 0; e < kSlice<T>; ++e)
        if (e >= left) y.at[e] = T{};
}

template <class T>
DEVICE void store_slices(const hipcommNormArgs& args, uint64_t row, uint32_t i, const Slice<T>& v, const Slice<T>& y) {
    if (args.residual_out)
        store_slice<false>(row_of<T>(args.residual_out, args.residual_out_stride, row, args.hidden), i, v);
    if (args.out) store_slice<false>(row_of<T>(args.out, args.out_stride, row, args.hidden), i, y);
}

/* All threads that have the row. make(piece, y): the norm of a piece, whose v is in v[0] then. Where several pieces share
 * a scale there is a sweep before the last one, in which they post their largest magnitudes. False in all lanes of a
 * warp if the block has failed. */
template <class T, uint32_t kOfLane, bool kSimple, class Sums, class Make>
DEVICE bool write_quantised(const hipcommNormArgs& args, const Pieces<kOfLane, kSimple>& pieces, uint64_t row,
                            uint64_t of_sums, const Slice<T> (&v)[kOfLane], Sums& sums, Make make) {
    static_assert(kOfLane == 1, "the slices of a piece are neighbours");
    const uint32_t slices = args.quantised.group / kSlice<T>; /* of a group; none of them: a slice has several groups */
    const uint32_t of_group = slices / kLanes;                /* pieces likewise */
    const bool is_wide = of_group > 1 && pieces.of_row > 1;
    Slice<T> y[1];
    const auto amax_of_piece = [&]() IN_LINE {
        return amax_of_lanes(amax_of_slice(y[0], 0, kSlice<T>), slices < kLanes ? slices : kLanes);
    };
    if (is_wide) {
        const bool posted = pieces.each([&](uint32_t piece) IN_LINE {
            make(piece, y);
            clear_past_end(left_of<T>(args.hidden, pieces.slice(piece, 0)), y[0]);
            return sums.post(of_sums, kAmax, pieces.of_row, piece, float_from_bits(amax_of_piece()));
        });
        if (!posted) return false;
        sums.meet();
    }
    const bool written = pieces.each([&](uint32_t piece) IN_LINE {
        const uint32_t i = pieces.slice(piece, 0), left = left_of<T>(args.hidden, i);
        make(piece, y);
        clear_past_end(left, y[0]);
        uint32_t amax = slices ? amax_of_piece() : 0;
        if (is_wide && !sums.most(of_sums, pieces.of_row, piece & ~(of_group - 1), of_group, amax)) return false;
        if (left) store_slices<T>(new_sweep(args), row, i, v[0], y[0]);
        write_codes(new_sweep(args), row, i, left, y[0], [&](uint32_t first, uint32_t n) IN_LINE {
            return kOneThread && !slices ? amax_of_slice(y[0], first, n) : amax;
        });
        return true;
    });
    if (!written) return false;
    const hipcommNormArgs& last = new_sweep(args);
    pad_scales(last.quantised, last.hidden, row - last.quantised.first, pieces.first * kLanes + pieces.lane,
               pieces.stride * kLanes);
    return true;
}
