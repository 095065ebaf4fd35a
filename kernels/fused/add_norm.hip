/* Residual and norm, without communication: a block takes every blocks-th row. */
#include "epilogue.h"

/* This rank's own rows: nothing is waited for. */
template <class T>
struct OwnRow {
    const hipcommNormArgs& args;
    const uint64_t row;
    static constexpr bool kWithResidual = false;

    DEVICE_MEMBER Message x() const { return row_of<T>(args.common.send, args.x_stride, row, args.hidden); }
    template <uint32_t kOfLane, bool kSimple>
    DEVICE_MEMBER void load(const Pieces<kOfLane, kSimple>& pieces, uint32_t piece, Slice<T> (&sum)[kOfLane]) const {
        load_piece(x(), pieces, piece, sum);
    }
    DEVICE_MEMBER void keep(uint32_t, const Slice<T>&) const {}
    DEVICE_MEMBER void again(uint32_t i, Slice<T>& v) const {
        load_slice<false>(x(), i, v);
        if (!args.residual) return;
        Slice<T> residual;
        load_slice<false>(row_of<T>(args.residual, args.residual_stride, row, args.hidden), i, residual);
        add_residual_slice(v, residual);
    }
};

template <class T, Norm kNorm, uint32_t kOfLane, bool kSimple>
DEVICE void add_norm_in_pieces(const hipcommNormArgs& args, const Geometry& g) {
    BlockSums sums{g};
    const Pieces<kOfLane, kSimple> pieces = pieces_of_block<T, kOfLane, kSimple>(g, args.hidden);
    NO_UNROLL
    for (uint64_t row = args.first + g.block; row < args.first + args.count; row += g.blocks) {
        const hipcommNormArgs& now = new_sweep(args);
        finish_row<T, kNorm>(now, g, pieces, row, 0, OwnRow<T>{now, row}, sums);
    }
}

template <class T, Norm kNorm>
DEVICE void add_norm(const hipcommNormArgs& args, const Geometry& g) {
    if constexpr (kNorm.is_any) {
        add_norm_in_pieces<T, kNorm, 1, false>(args, g);
    } else {
        if constexpr (!kNorm.is_layer) /* of a LayerNorm with so many threads registers run out */
            if (args.lane_slices == 4) return add_norm_in_pieces<T, kNorm, 4, true>(args, g);
        if (args.lane_slices == 2) return add_norm_in_pieces<T, kNorm, 2, true>(args, g);
        add_norm_in_pieces<T, kNorm, 1, true>(args, g);
    }
}

NORM_KERNELS(add_norm, HIPCOMM_MAX_LOCAL_THREADS)
