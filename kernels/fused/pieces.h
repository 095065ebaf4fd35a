/* A row in pieces: what a warp takes of it at a time. A piece has kOfLane slices for each lane, neighbouring slices for
 * neighbouring lanes, and so is an aligned power of two of the row's elements: a subtree of its sums. Where a block is
 * one thread, a piece is a slice. */
#pragma once

#include "../numbers/tree.h"
#include "slices.h"

/* Those of a row that this warp takes: first, first + stride, ... kSimple: rows, outputs and parameters are whole packs,
 * and there is one piece at most. What any other row needs, in each access, costs registers and
 * instructions, so it has code of its own. */
template <uint32_t kOfLane, bool kSimple>
struct Pieces {
    uint32_t of_row;
    uint32_t first, stride;
    uint32_t lane;

    /* visit(piece) for each of them, until it returns false. */
    template <class Visit>
    DEVICE_MEMBER bool each(Visit visit) const {
        if constexpr (kSimple) return first < of_row ? visit(anew(first)) : true;
        NO_UNROLL
        for (uint32_t piece = first; piece < of_row; piece += stride)
            if (!visit(piece)) return false;
        return true;
    }
    /* Slice p of a piece that this lane has; it may be past the row's end. */
    DEVICE_MEMBER uint32_t slice(uint32_t piece, uint32_t p) const { return (piece * kOfLane + p) * kLanes + lane; }
    DEVICE_MEMBER bool are_several() const { return !kSimple && first + stride < of_row; }
};

template <class T, uint32_t kOfLane>
DEVICE uint32_t pieces_of(uint32_t hidden) {
    return (slices_of<T>(hidden) + kOfLane * kLanes - 1) / (kOfLane * kLanes);
}

/* Of a row that one block works on. */
template <class T, uint32_t kOfLane, bool kSimple>
DEVICE Pieces<kOfLane, kSimple> pieces_of_block(const Geometry& g, uint32_t hidden) {
    return {pieces_of<T, kOfLane>(hidden), g.thread / kLanes, g.threads / kLanes, g.thread % kLanes};
}

/* Rows that all blocks of a launch share: a row has a warp for each piece, of whichever blocks, and as many rows as there
 * are warps for are worked on at once. A row of more pieces than there are warps has all of them. */
template <uint32_t kOfLane, bool kSimple>
struct SharedRows {
    Pieces<kOfLane, kSimple> pieces;
    uint32_t first, stride; /* rows of this warp */
};
template <class T, uint32_t kOfLane, bool kSimple>
DEVICE SharedRows<kOfLane, kSimple> shared_rows(const Geometry& g, uint32_t hidden) {
    const uint32_t of_row = pieces_of<T, kOfLane>(hidden);
    const uint32_t of_block = g.threads / kLanes, warps = g.blocks * of_block;
    const uint32_t warp = g.block * of_block + g.thread / kLanes, lane = g.thread % kLanes;
    if (UNLIKELY(of_row > warps)) return {{of_row, warp, warps, lane}, 0, 1};
    const uint32_t at_once = warps / of_row, row = warp / of_row;
    return {{of_row, warp % of_row, of_row, lane}, row < at_once ? row : ~0u, at_once};
}

/* The slices of a piece. What is past the row's end is zero. */
template <class T, uint32_t kOfLane, bool kSimple>
DEVICE void load_piece(const Message& row, const Pieces<kOfLane, kSimple>& pieces, uint32_t piece,
                       Slice<T> (&v)[kOfLane]) {
    if constexpr (kOneThread) return load_slice<kSimple>(row, piece, v[0]);
    UNROLL(4)
    for (uint32_t p = 0; p < kOfLane; ++p) load_slice<kSimple>(row, pieces.slice(piece, p), v[p]);
    hold(v); /* nothing between the loads waits for one of them */
}

/* All lanes: the sum over a piece of term(element). Elements past the row's end count as +0. */
template <class T, uint32_t kOfLane, bool kSimple, class Term>
DEVICE float sum_of_piece(const Pieces<kOfLane, kSimple>& pieces, uint32_t piece, uint32_t hidden,
                          const Slice<T> (&v)[kOfLane], Term term) {
    float sums[kOfLane];
    UNROLL(4)
    for (uint32_t p = 0; p < kOfLane; ++p) {
        const uint32_t before = pieces.slice(piece, p) * kSlice<T>;
        const uint32_t left = before < hidden ? hidden - before : 0;
        float terms[kSlice<T>];
        UNROLL(8)
        for (uint32_t e = 0; e < kSlice<T>; ++e) {
            const float t = term(widen(v[p].at[e]));
            terms[e] = kOneThread || kSimple || e < left ? t : 0.0f;
        }
        if constexpr (kOneThread) /* behind the loop, which a condition would keep from being vectorised */
            for (uint32_t e = left; e < kSlice<T>; ++e) terms[e] = 0.0f;
        sums[p] = subtree(terms);
        if (kSimple && left == 0) sums[p] = 0.0f; /* simple: all of a slice, or nothing */
        one_by_one();
    }
    UNROLL(4)
    for (uint32_t p = 0; p < kOfLane; ++p) sums[p] = sum_of_lanes(sums[p]);
    return subtree(sums);
}
