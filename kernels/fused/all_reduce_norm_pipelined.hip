/* All-reduce, residual and norm through the staging slab, for any number of rows. Rows have owners (fused/owners.h):
 *   push     copy each owner's rows of x into its staging memory
 *   reduce   sum up my rows, add the residual, write them into everybody's staging memory
 *   finish   norm all rows from there
 * Bytes over the links: 2 (n - 1)/n per byte of x. With a replicated residual everybody needs 16 bits of every row in
 * any case, so the row before the norm is what travels, and everybody norms it.
 *
 * The blocks share the rows (pieces.h): block b takes the same pieces of each owner's rows, alone with block b of the other
 * ranks. Staging memory of a launch: contributions [row][sender], then rows that are summed up [owner][row].
 */
#include "../launch/epoch.h"
#include "owned_rows.h"

enum Phase : uint32_t { kPushed, kReduced };

/* Row `row` of an owner, counted within this launch, summed up, as `reader` finds it. */
template <class T>
DEVICE char* reduced(const Launch& launch, const hipcommNormArgs& args, uint32_t reader, uint32_t owner, uint64_t row) {
    return staged_row<T>(launch, args, reader, (args.common.world + owner) * args.count + row);
}

/* A row as its owner has left it: the residual is in it. */
template <class T>
struct ReducedRow {
    const char* row;
    const uint32_t slices;
    static constexpr bool kWithResidual = true;

    template <uint32_t kOfLane, bool kSimple>
    DEVICE_MEMBER void load(const Pieces<kOfLane, kSimple>& pieces, uint32_t piece, Slice<T> (&v)[kOfLane]) const {
        load_staged_piece<T>(row, slices, pieces, piece, v);
    }
    DEVICE_MEMBER void keep(uint32_t, const Slice<T>&) const {}
    DEVICE_MEMBER void again(uint32_t i, Slice<T>& v) const { load_staged_slice(row, i, v); }
};

/* Visit(owner, row of the owner in this launch, row of the call) for this warp's rows; owners from `first` on. Ends when
 * it returns false. */
template <uint32_t kOfLane, bool kSimple, class Visit>
DEVICE void for_each_row(const hipcommNormArgs& args, const SharedRows<kOfLane, kSimple>& shared, uint32_t first,
                         Visit visit) {
    const Owners owners = owners_of(args);
    const uint32_t world = args.common.world;
    NO_UNROLL
    for (uint32_t row = shared.first; row < args.count; row += shared.stride) {
        NO_UNROLL
        for (uint32_t k = 0; k < world; ++k) {
            const uint32_t owner = rank_after(first, k, world);
            if (args.first + row < owners.rows(owner) && !visit(owner, row, owners.first(owner) + args.first + row)) return;
        }
    }
}

template <class T, uint32_t kOfLane, bool kSimple>
DEVICE void push_rows(const Launch& launch, const hipcommNormArgs& args, const SharedRows<kOfLane, kSimple>& shared) {
    for_each_row(args, shared, args.common.rank, [&](uint32_t owner, uint32_t row, uint64_t token) IN_LINE {
        if (owner == args.common.rank) return true;
        char* const to = contribution<T>(launch, args, owner, row, args.common.rank);
        const Message x = row_of<T>(args.common.send, args.x_stride, token, args.hidden);
        if constexpr (kOneThread) {
            stage_row(launch, to, x);
        } else {
            shared.pieces.each([&](uint32_t piece) IN_LINE {
                Slice<T> slices[kOfLane];
                load_piece(x, shared.pieces, piece, slices);
                store_staged_piece<T>(to, slices_of<T>(args.hidden), shared.pieces, piece, slices);
                return true;
            });
        }
        return true;
    });
}

template <class T, uint32_t kOfLane, bool kSimple>
DEVICE void reduce_rows(const Launch& launch, const hipcommNormArgs& args, const SharedRows<kOfLane, kSimple>& shared) {
    const Owners owners = owners_of(args);
    const uint32_t self = args.common.rank, world = args.common.world;
    NO_UNROLL
    for (uint32_t row = shared.first; row < args.count && args.first + row < owners.rows(self); row += shared.stride) {
        const uint64_t token = owners.first(self) + args.first + row;
        const Message x = row_of<T>(args.common.send, args.x_stride, token, args.hidden);
        shared.pieces.each([&](uint32_t piece) IN_LINE {
            Slice<T> v[kOfLane], residual[kOfLane];
            if (args.residual) load_residual<T>(args, token, shared.pieces, piece, residual);
            sum_pieces<T>(
                launch.args,
                [&](uint32_t rank, Slice<T> (&slices)[kOfLane]) IN_LINE {
                    if (rank == self)
                        load_piece(x, shared.pieces, piece, slices);
                    else
                        load_staged_piece<T>(contribution<T>(launch, args, self, row, rank), slices_of<T>(args.hidden),
                                             shared.pieces, piece, slices);
                },
                v);
            if (args.residual) add_residual_piece<T>(v, residual);
            NO_UNROLL
            for (uint32_t k = 1; k <= world; ++k) /* every rank begins with another peer */
                store_staged_piece<T>(reduced<T>(launch, args, rank_after(self, k, world), self, row),
                                      slices_of<T>(args.hidden), shared.pieces, piece, v);
            return true;
        });
    }
}

template <class T, Norm kNorm, uint32_t kOfLane, bool kSimple>
DEVICE void finish_rows(const Launch& launch, const hipcommNormArgs& args, const SharedRows<kOfLane, kSimple>& shared) {
    const Geometry& g = launch.geometry;
    SumsOfShared sums{launch, 0, uint32_t(args.common.world * args.count)};
    for_each_row(args, shared, args.common.rank, [&](uint32_t owner, uint32_t row, uint64_t token) IN_LINE {
        const ReducedRow<T> source{reduced<T>(launch, args, args.common.rank, owner, row), slices_of<T>(args.hidden)};
        return finish_row<T, kNorm>(args, g, shared.pieces, token, owner * args.count + row, source, sums);
    });
}

template <class T, Norm kNorm, uint32_t kOfLane, bool kSimple>
DEVICE void all_reduce_norm_in_pieces(const Launch& launch, const hipcommNormArgs& args) {
    const SharedRows<kOfLane, kSimple> shared = shared_rows<T, kOfLane, kSimple>(launch.geometry, args.hidden);
    push_rows<T>(new_phase(launch), new_sweep(args), shared);
    signal_peers(launch, kPushed, 1);
    if (!wait_for_peers(launch, kPushed, 1)) return;
    reduce_rows<T>(new_phase(launch), new_sweep(args), shared);
    signal_peers(launch, kReduced, 1);
    if (!wait_for_peers(launch, kReduced, 1)) return;
    finish_rows<T, kNorm>(new_phase(launch), new_sweep(args), shared);
}

template <class T, Norm kNorm>
DEVICE void all_reduce_norm_pipelined(const hipcommNormArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args.common, g);
    if (is_behind_failure(launch)) return end_launch(launch);
    if constexpr (kNorm.is_any)
        all_reduce_norm_in_pieces<T, kNorm, 1, false>(launch, args);
    else if (args.lane_slices == 4)
        all_reduce_norm_in_pieces<T, kNorm, 4, true>(launch, args);
    else if (args.lane_slices == 2)
        all_reduce_norm_in_pieces<T, kNorm, 2, true>(launch, args);
    else
        all_reduce_norm_in_pieces<T, kNorm, 1, true>(launch, args);
    end_launch(launch);
}

NORM_KERNELS(all_reduce_norm_pipelined, HIPCOMM_MAX_UNIT_THREADS)
