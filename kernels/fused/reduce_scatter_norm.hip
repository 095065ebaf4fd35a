/* Reduce-scatter, residual and norm, and the all-reduce whose residual is sharded, through the staging slab, for any
 * number of rows; on the CPU also the all-reduce whose residual is not, where to copy rows costs less than to norm them.
 * Rows have owners (fused/owners.h):
 *   push     copy each owner's rows of x into its staging memory
 *   finish   sum up, add the residual to and norm my rows; write what is wanted of them
 *   gather   copy that into everybody else's staging memory, and out of there; of an all-reduce only
 * Bytes over the links, per byte of x: (n - 1)/n, and as much again of what is gathered: codes and scales alone, if those
 * are all that is wanted.
 *
 * Staging memory of a launch: contributions [row][sender], then records of finished rows [owner][row].
 */
#include "../launch/epoch.h"
#include "gather.h"
#include "owned_rows.h"

enum Phase : uint32_t { kPushed, kGathered };

/* A row of this rank's, of which the peers' parts are in its staging memory. What is kept has the place of its own part,
 * which nobody sends. */
template <class T>
struct OwnedRow : KeptInStaging<T> {
    const Launch& launch;
    const uint64_t row, token;
    static constexpr bool kWithResidual = false;

    DEVICE_MEMBER void load(const Pieces<1, false>& pieces, uint32_t piece, Slice<T> (&sum)[1]) const {
        sum[0] = {};
        const Launch now = new_phase(launch);
        const auto& args = reinterpret_cast<const hipcommNormArgs&>(now.args);
        const uint32_t self = now.args.rank, i = pieces.slice(piece, 0);
        if (i >= slices_of<T>(args.hidden)) return;
        sum_pieces<T>(
            now.args,
            [&](uint32_t rank, Slice<T> (&slice)[1]) IN_LINE {
                if (rank == self)
                    load_slice<false>(row_of<T>(args.common.send, args.x_stride, token, args.hidden), i, slice[0]);
                else
                    load_staged_slice(contribution<T>(now, args, self, row, rank), i, slice[0]);
            },
            sum);
    }
};

template <class T>
DEVICE char* record_of(const Launch& launch, const hipcommNormArgs& args, uint32_t reader, uint32_t owner, uint64_t row) {
    const uint64_t contributions = args.count * args.common.world * slices_of<T>(args.hidden) * sizeof(Slice<T>);
    return record(launch, contributions, args.gathered_bytes, args.count, reader, owner, row);
}

template <class T>
DEVICE GatheredRow gathered(const hipcommNormArgs& args, uint64_t token) {
    const auto row = [&](void* rows, uint64_t stride, bool wanted) IN_LINE {
        return message(static_cast<char*>(rows) + token * stride, wanted ? uint64_t(args.hidden) * sizeof(T) : 0);
    };
    return gathered_row(row(args.out, args.out_stride, args.out),
                        row(args.residual_out, args.residual_out_stride, args.gathers_residual), args.quantised, token,
                        args.hidden);
}

template <class T, Norm kNorm>
DEVICE void finish_rows(const Launch& launch, const hipcommNormArgs& args) {
    const Geometry& g = launch.geometry;
    const Owners owners = owners_of(args);
    const uint32_t self = args.common.rank;
    BlockSums sums{g};
    const Pieces<1, false> pieces = pieces_of_block<T, 1, false>(g, args.hidden);
    NO_UNROLL
    for (uint64_t row = g.block; row < args.count && args.first + row < owners.rows(self); row += g.blocks) {
        const uint64_t token = owners.first(self) + args.first + row;
        const OwnedRow<T> source{{contribution<T>(launch, args, self, row, self)}, launch, row, token};
        finish_row<T, kNorm>(args, g, pieces, token, 0, source, sums);
        if (args.gathered_bytes == 0) continue;
        block_barrier(); /* what all threads have written of the row is read by others */
        const Launch now = new_phase(launch);
        const hipcommNormArgs& sent = new_sweep(args);
        send_row(now, gathered<T>(sent, token),
                 [&](uint32_t reader) IN_LINE { return record_of<T>(now, sent, reader, sent.common.rank, row); });
    }
}

template <class T>
DEVICE void receive_rows(const Launch& launch, const hipcommNormArgs& args) {
    for_each_row(args, launch.geometry, args.common.rank, [&](uint32_t owner, uint64_t row, uint64_t token) IN_LINE {
        if (owner == args.common.rank) return;
        receive_row(launch, gathered<T>(args, token), record_of<T>(launch, args, args.common.rank, owner, row),
                    args.hidden);
    });
}

template <class T, Norm kNorm>
DEVICE void reduce_scatter_norm(const hipcommNormArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args.common, g);
    if (is_behind_failure(launch)) return end_launch(launch);
    push_rows<T>(new_phase(launch), new_sweep(args));
    signal_peers(launch, kPushed, 1);
    if (!wait_for_peers(launch, kPushed, 1)) return end_launch(launch);
    finish_rows<T, kNorm>(new_phase(launch), new_sweep(args));
    if (args.gathered_bytes) {
        signal_peers(launch, kGathered, 1);
        if (wait_for_peers(launch, kGathered, 1)) receive_rows<T>(new_phase(launch), new_sweep(args));
    }
    end_launch(launch);
}

ANY_NORM_KERNELS(reduce_scatter_norm, HIPCOMM_MAX_UNIT_THREADS)
