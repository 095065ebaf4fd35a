/* RMSNorm of the rows of q and of k, where every rank has a part of each row (attention whose heads are split): a rank sums
 * up the squares of its part, and sends the two sums of a row to everybody in a line of two words. Nothing else goes over
 * the links: 16 bytes a row to each peer. v is copied.
 *
 * Block b takes every blocks-th row, alone with block b of the other ranks; its warps take pieces of q, k and v side by
 * side. It sends the sums of the next rows before it waits for those of these ones. Line layout at the receiver:
 * [sender][row of the launch].
 */
#include "../launch/epoch.h"
#include "outputs.h"
#include "pieces.h"

DEVICE const hipcommQkNormArgs& new_sweep(const hipcommQkNormArgs& args) {
    return reinterpret_cast<const hipcommQkNormArgs&>(reload_args(args.common));
}

enum Which : uint32_t { kQ, kK, kV };

/* By value: an address that is chosen would have the arguments copied to where there are such. */
template <class Value>
DEVICE Value of(uint32_t which, Value q, Value k, Value v) {
    return which == kQ ? q : which == kK ? k : v;
}

/* A lane's slice of a piece. `which` is the same in all threads, and known to be. */
struct QkSlice {
    uint32_t which, hidden;
    uint32_t piece, slice;
};

/* visit(slice) for what this thread has of a row's q, k, ... up to `last`. Their pieces are dealt to the warps in one
 * round. */
template <class T, class Visit>
DEVICE void each_slice(const hipcommQkNormArgs& args, const Geometry& g, uint32_t last, Visit visit) {
    const uint32_t warps = g.threads / kLanes, lane = g.thread % kLanes;
    uint32_t first = g.thread / kLanes; /* piece of this warp */
    NO_UNROLL
    for (uint32_t which = kQ; which <= last; ++which) {
        const uint32_t hidden = of(which, args.q.hidden, args.k.hidden, args.v.hidden), pieces = pieces_of<T, 1>(hidden);
        NO_UNROLL
        for (uint32_t piece = first; piece < pieces; piece += warps) visit(QkSlice{which, hidden, piece, piece * kLanes + lane});
        first = (first + warps - pieces % warps) % warps;
    }
}

template <class T>
DEVICE Message input(const hipcommQkNormArgs& args, const QkSlice& at, uint64_t row) {
    return row_of<T>(of(at.which, args.q.in, args.k.in, args.v.in),
                     of(at.which, args.q.in_stride, args.k.in_stride, args.v.in_stride), args.first + row, at.hidden);
}
template <class T>
DEVICE Message output(const hipcommQkNormArgs& args, const QkSlice& at, uint64_t row) {
    return row_of<T>(of(at.which, args.q.out, args.k.out, args.v.out),
                     of(at.which, args.q.out_stride, args.k.out_stride, args.v.out_stride), args.first + row, at.hidden);
}

/* What a rank says of a row: the bits of q's sum and of k's. */
using RowSums = Words<2>;

DEVICE uint32_t line_of_row(const hipcommQkNormArgs& args, uint32_t sender, uint32_t row) {
    return sender * uint32_t(args.count) + row;
}

/* Sums of pieces: of two rows by turns, so that one barrier a row is enough; and what all ranks say of some rows. */
DEVICE float* partials(const Geometry& g, uint32_t turn, uint32_t which) {
    return reinterpret_cast<float*>(g.shared + HIPCOMM_BLOCK_STATE_BYTES) + (turn % 2 * 2 + which) * kMostPartials;
}
DEVICE RowSums* sums_of_ranks(const Geometry& g) { return reinterpret_cast<RowSums*>(partials(g, 0, 4)); }

template <class T>
DEVICE void sum_up_slice(const hipcommQkNormArgs& args, const QkSlice& at, uint32_t row, const Geometry& g, uint32_t turn) {
    Slice<T> x;
    load_slice<false>(input<T>(args, at, row), at.slice, x); /* zeros behind the row's end */
    if (at.which == kV) {
        if (at.slice < slices_of<T>(at.hidden)) store_slice<false>(output<T>(args, at, row), at.slice, x);
        return;
    }
    float squares[kSlice<T>];
    UNROLL(8)
    for (uint32_t e = 0; e < kSlice<T>; ++e) squares[e] = widen(x.at[e]) * widen(x.at[e]);
    const float sum = sum_of_lanes(subtree(squares));
    if (g.thread % kLanes == 0) partials(g, turn, at.which)[at.piece] = sum;
}

/* All threads. Rows first, first + 1, ... end - 1 of this block. */
template <class T>
DEVICE void send_sums(const Launch& launch, const hipcommQkNormArgs& args, uint32_t first, uint32_t end) {
    const Geometry& g = launch.geometry;
    const uint32_t warp = g.thread / kLanes, warps = g.threads / kLanes, lane = g.thread % kLanes;
    NO_UNROLL
    for (uint32_t turn = first; turn < end; ++turn) {
        const uint32_t row = g.block + turn * g.blocks;
        each_slice<T>(args, g, kV, [&](const QkSlice& at) IN_LINE { sum_up_slice<T>(args, at, row, g, turn); });
        block_barrier();
        if (turn % warps != warp) continue;
        RowSums sums;
        NO_UNROLL
        for (uint32_t which = kQ; which <= kK; ++which) {
            const float* const from = partials(g, turn, which);
            const uint32_t pieces = pieces_of<T, 1>(which == kQ ? args.q.hidden : args.k.hidden);
            const float sum = tree_of(pieces, lane, [=](uint32_t i) IN_LINE { return from[i]; });
            sums.word[0] = which == kQ ? bits_of_float(sum) : sums.word[0];
            sums.word[1] = bits_of_float(sum);
        }
        NO_UNROLL
        for (uint32_t peer = lane; peer < launch.args.world; peer += kLanes)
            send_words(launch, peer, line_of_row(args, launch.args.rank, row), sums);
    }
}

/* In rank order. */
DEVICE float sum_over_ranks(const RowSums* of_ranks, uint32_t world, uint32_t which) {
    float sum = float_from_bits(of_ranks[0].word[which]);
    NO_UNROLL
    for (uint32_t rank = 1; rank < world; ++rank) sum = sum + float_from_bits(of_ranks[rank].word[which]);
    return sum;
}

template <class T>
DEVICE void write_slice(const hipcommQkNormArgs& args, const QkSlice& at, uint32_t row, const RowSums* of_ranks) {
    if (at.slice >= slices_of<T>(at.hidden) || !of(at.which, args.q.out, args.k.out, args.v.out)) return;
    const void* const weight = of(at.which, args.q.weight, args.k.weight, args.v.weight);
    const bool is_float32 = of(at.which, args.q.weight_is_float32, args.k.weight_is_float32, args.v.weight_is_float32);
    const uint32_t world = args.common.world;
    Slice<T> x;
    Parameters<T> weights;
    load_slice<false>(input<T>(args, at, row), at.slice, x);
    weights.template load<false>(weight, is_float32, at.hidden, at.slice);
    const float s = inverse_deviation(sum_over_ranks(of_ranks, world, at.which), at.hidden * world, args.eps);
    float y[kSlice<T>];
    weights.widen_to(weight, is_float32, 1.0f, y);
    UNROLL(8)
    for (uint32_t e = 0; e < kSlice<T>; ++e) y[e] = scaled(widen(x.at[e]), s, y[e] + 0.0f);
    round_to(y, x);
    store_slice<false>(output<T>(args, at, row), at.slice, x);
}

/* All threads. False in all of them if the block has failed; then nothing more is written. */
template <class T>
DEVICE bool finish_rows(const Launch& launch, const hipcommQkNormArgs& args, uint32_t first, uint32_t end) {
    const Geometry& g = launch.geometry;
    const uint32_t world = launch.args.world;
    RowSums* const of_ranks = sums_of_ranks(g);
    block_barrier(); /* nobody reads those of the rows before any more */
    NO_UNROLL
    for (uint32_t i = g.thread; i < (end - first) * world; i += g.threads) {
        const uint32_t row = g.block + (first + i / world) * g.blocks, rank = i % world;
        of_ranks[i] = receive_words<2>(launch, rank, line_of_row(args, rank, row));
    }
    block_barrier();
    if (block_failed(launch)) return false;
    NO_UNROLL
    for (uint32_t turn = first; turn < end; ++turn)
        each_slice<T>(args, g, kK, [&](const QkSlice& at) IN_LINE {
            write_slice<T>(args, at, g.block + turn * g.blocks, of_ranks + (turn - first) * world);
        });
    return true;
}

template <class T>
DEVICE void all_reduce_qk_norm(const hipcommQkNormArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args.common, g);
    if (is_behind_failure(launch)) return end_launch(launch);
    const uint32_t count = uint32_t(args.count), rows = g.block < count ? (count - g.block + g.blocks - 1) / g.blocks : 0;
    const auto end_of = [=](uint32_t first) IN_LINE { return rows - first < HIPCOMM_QK_ROWS ? rows : first + HIPCOMM_QK_ROWS; };
    bool going = true;
    NO_UNROLL
    for (uint32_t next = 0; going && next < rows + HIPCOMM_QK_ROWS; next += HIPCOMM_QK_ROWS) {
        if (next < rows) send_sums<T>(new_phase(launch), new_sweep(args), next, end_of(next));
        if (next == 0) continue;
        const uint32_t first = next - HIPCOMM_QK_ROWS;
        if (first < rows) going = finish_rows<T>(new_phase(launch), new_sweep(args), first, end_of(first));
    }
    end_launch(launch);
}

#define QK_NORM_KERNEL(dtype, T) \
    KERNEL(hipcomm_all_reduce_qk_norm_##dtype, all_reduce_qk_norm<T>, hipcommQkNormArgs, HIPCOMM_MAX_UNIT_THREADS)
QK_NORM_KERNEL(float16, float16)
QK_NORM_KERNEL(bfloat16, bfloat16)
QK_NORM_KERNEL(float32, float)
