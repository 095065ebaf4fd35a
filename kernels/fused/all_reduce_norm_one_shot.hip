/* All-reduce, residual and norm, flag-in-data one-shot by rows: every rank sends all its rows to every peer as lines,
 * and sums up and finishes all rows itself. One one-way latency; 2 (n - 1) bytes over the links per byte of x.
 *
 * The blocks share the rows (pieces.h). Line layout at the receiver: [sender][row of the launch][pack]; where this rank's
 * own would be are the words of the rows' sums.
 */
#include "../launch/epoch.h"
#include "arriving.h"
#include "sources.h"

template <class T>
DEVICE Message row_of_x(const hipcommNormArgs& args, uint64_t row) {
    return row_of<T>(args.common.send, args.x_stride, args.first + row, args.hidden);
}

/* A row that arrives as lines. */
template <class T>
struct ArrivingRow : KeptInStaging<T> {
    const Launch& launch;
    const uint32_t row;
    static constexpr bool kWithResidual = false;

    template <uint32_t kOfLane, bool kSimple>
    DEVICE_MEMBER void load(const Pieces<kOfLane, kSimple>& pieces, uint32_t piece, Slice<T> (&sum)[kOfLane]) const {
        const Launch now = new_phase(launch);
        const auto& args = reinterpret_cast<const hipcommNormArgs&>(now.args);
        load_piece(row_of_x<T>(args, row), pieces, piece, sum);
        reduce_lines<T>(now, args, row, pieces, piece, sum);
    }
};

template <class T, uint32_t kOfLane, bool kSimple>
DEVICE void push_rows(const Launch& launch, const hipcommNormArgs& args, const SharedRows<kOfLane, kSimple>& shared,
                      const Slice<T> (&first)[kOfLane]) {
    NO_UNROLL
    for (uint32_t row = shared.first; row < args.count; row += shared.stride) {
        NO_UNROLL
        for (uint32_t piece = shared.pieces.first; piece < shared.pieces.of_row; piece += shared.pieces.stride) {
            Slice<T> x[kOfLane];
            if (row == shared.first && piece == shared.pieces.first)
                __builtin_memcpy(x, first, sizeof x);
            else
                load_piece(row_of_x<T>(args, row), shared.pieces, piece, x);
            send_piece<T>(launch, args, 1, args.common.world - 1, args.common.rank, row, shared.pieces, piece, x);
        }
    }
}

template <class T, Norm kNorm, uint32_t kOfLane, bool kSimple>
DEVICE void finish_rows(const Launch& launch, const hipcommNormArgs& args, const SharedRows<kOfLane, kSimple>& shared) {
    SumsOfShared sums{launch, row_lines<T>(args).bytes_before(args.common.rank), uint32_t(args.count)};
    NO_UNROLL
    for (uint32_t row = shared.first; row < args.count; row += shared.stride) {
        const ArrivingRow<T> source{{staged_row<T>(launch, args, args.common.rank, row)}, launch, row};
        if (!finish_row<T, kNorm>(args, launch.geometry, shared.pieces, args.first + row, row, source, sums)) return;
    }
}

template <class T, Norm kNorm, uint32_t kOfLane, bool kSimple>
DEVICE void all_reduce_norm_in_pieces(const hipcommNormArgs& args, const Geometry& g) {
    const SharedRows<kOfLane, kSimple> shared = shared_rows<T, kOfLane, kSimple>(g, args.hidden);
    /* Most launches have one piece a warp. Its load is sent out before the epoch is waited for. */
    Slice<T> first[kOfLane] = {};
    if (shared.first < args.count) load_piece(row_of_x<T>(args, shared.first), shared.pieces, shared.pieces.first, first);
    const Launch launch = begin_launch(args.common, g);
    if (is_behind_failure(launch)) return end_launch(launch);
    push_rows<T>(new_phase(launch), new_sweep(args), shared, first);
    finish_rows<T, kNorm>(new_phase(launch), new_sweep(args), shared);
    end_launch(launch);
}

template <class T, Norm kNorm>
DEVICE void all_reduce_norm_one_shot(const hipcommNormArgs& args, const Geometry& g) {
    if constexpr (kNorm.is_any) {
        all_reduce_norm_in_pieces<T, kNorm, 1, false>(args, g);
    } else {
        if (args.lane_slices == 2) return all_reduce_norm_in_pieces<T, kNorm, 2, true>(args, g);
        all_reduce_norm_in_pieces<T, kNorm, 1, true>(args, g);
    }
}

NORM_KERNELS(all_reduce_norm_one_shot, HIPCOMM_MAX_UNIT_THREADS)
