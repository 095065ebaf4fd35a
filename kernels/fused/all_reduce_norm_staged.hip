/* All-reduce, residual and norm, staged: every rank leaves its rows in its own staging memory, and sums up and finishes
 * all rows itself from there. One hand-over; n - 1 bytes are read from the peers per byte of x. For few rows where all
 * ranks have one memory (the CPU): see all_reduce_staged.hip.
 *
 * Block b takes every blocks-th row, alone with block b of the other ranks. Nobody overwrites what a slower peer still
 * reads: staging memory exists twice (hipcomm/abi/slabs.h). Behind the rows that the peers read, as many that they do not.
 */
#include "../launch/epoch.h"
#include "sources.h"

enum Phase : uint32_t { kStaged };

template <class T>
DEVICE Message row_of_x(const hipcommNormArgs& args, uint64_t row) {
    return row_of<T>(args.common.send, args.x_stride, args.first + row, args.hidden);
}

/* A row of which every rank has its part in its staging memory. */
template <class T>
struct StagedRow : KeptInStaging<T> {
    const Launch& launch;
    const uint64_t row;
    static constexpr bool kWithResidual = false;

    DEVICE_MEMBER void load(const Pieces<1, false>& pieces, uint32_t piece, Slice<T> (&sum)[1]) const {
        const Launch now = new_phase(launch);
        const auto& args = reinterpret_cast<const hipcommNormArgs&>(now.args);
        sum_pieces<T>(
            now.args,
            [&](uint32_t rank, Slice<T> (&slices)[1]) IN_LINE {
                if (rank == now.args.rank)
                    load_piece(row_of_x<T>(args, row), pieces, piece, slices);
                else
                    load_staged_piece<T>(staged_row<T>(now, args, rank, row), slices_of<T>(args.hidden), pieces, piece, slices);
            },
            sum);
    }
};

template <class T, Norm kNorm>
DEVICE void finish_rows(const Launch& launch, const hipcommNormArgs& args) {
    const Geometry& g = launch.geometry;
    BlockSums sums{g};
    const Pieces<1, false> pieces = pieces_of_block<T, 1, false>(g, args.hidden);
    NO_UNROLL
    for (uint64_t row = g.block; row < args.count; row += g.blocks) {
        const StagedRow<T> source{{staged_row<T>(launch, args, args.common.rank, args.count + row)}, launch, row};
        finish_row<T, kNorm>(args, g, pieces, args.first + row, 0, source, sums);
    }
}

template <class T, Norm kNorm>
DEVICE void all_reduce_norm_staged(const hipcommNormArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args.common, g);
    if (is_behind_failure(launch)) return end_launch(launch);
    for (uint64_t row = g.block; row < args.count; row += g.blocks)
        stage_row(launch, staged_row<T>(launch, args, args.common.rank, row), row_of_x<T>(args, row));
    signal_peers(launch, kStaged, 1);
    if (wait_for_peers(launch, kStaged, 1)) finish_rows<T, kNorm>(new_phase(launch), new_sweep(args));
    end_launch(launch);
}

ANY_NORM_KERNELS(all_reduce_norm_staged, HIPCOMM_MAX_UNIT_THREADS)
