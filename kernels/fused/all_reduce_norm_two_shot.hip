/* All-reduce, residual and norm, flag-in-data two-shot by rows. Rows have owners (fused/owners.h):
 *   push     send each owner its rows of x, as lines
 *   reduce   sum up my rows, add the residual, and send them to everybody as lines
 *   finish   norm all rows
 * Two one-way latencies, and no hand-over; 4 (n - 1)/n bytes over the links per byte of x, half of them flags.
 *
 * The blocks share the rows of all owners (pieces.h). A warp has the same pieces of the same rows in all three phases, so
 * the calls in place are safe. Line layout at the receiver: contributions [sender][row of mine][pack], then rows that are
 * summed up [owner][row][pack], then the words of the rows' sums.
 */
#include "../launch/epoch.h"
#include "arriving.h"
#include "owners.h"
#include "sources.h"

/* Who sends rows that are summed up, among the senders of lines. */
DEVICE uint32_t as_owner(const hipcommKernelArgs& args, uint32_t owner) { return args.world + owner; }

/* A row as its owner has left it: the residual is in it. */
template <class T>
struct ReturnedRow {
    const Launch& launch;
    const uint32_t owner, row;
    static constexpr bool kWithResidual = true;

    template <uint32_t kOfLane, bool kSimple>
    DEVICE_MEMBER void load(const Pieces<kOfLane, kSimple>& pieces, uint32_t piece, Slice<T> (&v)[kOfLane]) const {
        const Launch now = new_phase(launch);
        const auto& args = reinterpret_cast<const hipcommNormArgs&>(now.args);
        receive_piece<T>(now, args, owner, as_owner(now.args, owner), row, pieces, piece, v);
    }
    DEVICE_MEMBER void keep(uint32_t, const Slice<T>&) const {}
    DEVICE_MEMBER void again(uint32_t i, Slice<T>& v) const {
        const RowLines lines = row_lines<T>(reinterpret_cast<const hipcommNormArgs&>(launch.args));
        SlicePacks<T> packs{};
        for (uint32_t k = 0; k < kSlicePacks<T> && i * kSlicePacks<T> + k < lines.packs; ++k)
            load_line(lines.place(launch, launch.args.rank, as_owner(launch.args, owner), row, i * kSlicePacks<T> + k),
                      packs.pack[k], launch.flag());
        v = __builtin_bit_cast(Slice<T>, packs);
    }
};

/* Visit(owner, row of the owner in this launch, row of the call, row among all of this launch) for this warp's rows, until
 * it returns false. */
template <uint32_t kOfLane, bool kSimple, class Visit>
DEVICE void for_each_row(const hipcommNormArgs& args, const SharedRows<kOfLane, kSimple>& shared, Visit visit) {
    const Owners owners = owners_of(args);
    const uint32_t world = args.common.world, rows = world * uint32_t(args.count);
    NO_UNROLL
    for (uint32_t i = shared.first; i < rows; i += shared.stride) {
        const uint32_t owner = i % world, row = i / world;
        if (args.first + row < owners.rows(owner) && !visit(owner, row, owners.first(owner) + args.first + row, i)) return;
    }
}

template <class T, uint32_t kOfLane, bool kSimple>
DEVICE void push_rows(const Launch& launch, const hipcommNormArgs& args, const SharedRows<kOfLane, kSimple>& shared) {
    const uint32_t self = args.common.rank, world = args.common.world;
    for_each_row(args, shared, [&](uint32_t owner, uint32_t row, uint64_t token, uint32_t) IN_LINE {
        if (owner == self) return true;
        const uint32_t behind = owner > self ? owner - self : owner + world - self;
        return shared.pieces.each([&](uint32_t piece) IN_LINE {
            Slice<T> x[kOfLane];
            load_piece(row_of<T>(args.common.send, args.x_stride, token, args.hidden), shared.pieces, piece, x);
            send_piece<T>(launch, args, behind, 1, self, row, shared.pieces, piece, x);
            return true;
        });
    });
}

/* False in all lanes of a warp if the block has failed; then nothing has been sent. */
template <class T, uint32_t kOfLane, bool kSimple>
DEVICE bool reduce_rows(const Launch& launch, const hipcommNormArgs& args, const SharedRows<kOfLane, kSimple>& shared) {
    const uint32_t self = args.common.rank, world = args.common.world;
    bool all = true;
    for_each_row(args, shared, [&](uint32_t owner, uint32_t row, uint64_t token, uint32_t) IN_LINE {
        if (owner != self) return true;
        all = shared.pieces.each([&](uint32_t piece) IN_LINE {
            Slice<T> v[kOfLane], residual[kOfLane];
            if (args.residual) load_residual<T>(args, token, shared.pieces, piece, residual);
            load_piece(row_of<T>(args.common.send, args.x_stride, token, args.hidden), shared.pieces, piece, v);
            reduce_lines<T>(launch, args, row, shared.pieces, piece, v);
            if (args.residual) add_residual_piece<T>(v, residual);
            if (any_lane(block_failed(launch))) return false;
            send_piece<T>(launch, args, 0, world, as_owner(args.common, self), row, shared.pieces, piece, v);
            return true;
        });
        return all;
    });
    return all;
}

template <class T, Norm kNorm, uint32_t kOfLane, bool kSimple>
DEVICE void finish_rows(const Launch& launch, const hipcommNormArgs& args, const SharedRows<kOfLane, kSimple>& shared) {
    const uint32_t world = args.common.world;
    SumsOfShared sums{launch, row_lines<T>(args).bytes_before(as_owner(args.common, world)), world * uint32_t(args.count)};
    for_each_row(args, shared, [&](uint32_t owner, uint32_t row, uint64_t token, uint32_t i) IN_LINE {
        const ReturnedRow<T> source{launch, owner, row};
        return finish_row<T, kNorm>(args, launch.geometry, shared.pieces, token, i, source, sums);
    });
}

template <class T, Norm kNorm, uint32_t kOfLane, bool kSimple>
DEVICE void all_reduce_norm_in_pieces(const Launch& launch, const hipcommNormArgs& args) {
    const SharedRows<kOfLane, kSimple> shared = shared_rows<T, kOfLane, kSimple>(launch.geometry, args.hidden);
    push_rows<T>(new_phase(launch), new_sweep(args), shared);
    if (reduce_rows<T>(new_phase(launch), new_sweep(args), shared))
        finish_rows<T, kNorm>(new_phase(launch), new_sweep(args), shared);
}

template <class T, Norm kNorm>
DEVICE void all_reduce_norm_two_shot(const hipcommNormArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args.common, g);
    if (is_behind_failure(launch)) return end_launch(launch);
    if constexpr (kNorm.is_any)
        all_reduce_norm_in_pieces<T, kNorm, 1, false>(launch, args);
    else if (args.lane_slices == 2)
        all_reduce_norm_in_pieces<T, kNorm, 2, true>(launch, args);
    else
        all_reduce_norm_in_pieces<T, kNorm, 1, true>(launch, args);
    end_launch(launch);
}

NORM_KERNELS(all_reduce_norm_two_shot, HIPCOMM_MAX_UNIT_THREADS)
