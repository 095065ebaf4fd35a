/* All-reduce, residual and norm through the staging slab, for any number of rows. Rows have owners (fused/owners.h):
 *   push     copy each owner's rows of x into its staging memory
 *   reduce   sum up my rows, add the residual, write them into everybody's staging memory
 *   finish   norm all rows from there
 * Bytes over the links: 2 (n - 1)/n per byte of x. With a replicated residual everybody needs 16 bits of every row in
 * any case, so the row before the norm is what travels, and everybody norms it.
 *
 * Block b takes every blocks-th row of each owner, alone with block b of the other ranks. Staging memory of a launch:
 * contributions [row][sender], then rows that are summed up [owner][row].
 */
#include "../launch/epoch.h"
#include "owners.h"
#include "sources.h"

enum Phase : uint32_t { kPushed, kReduced };

/* Row `row` of an owner, counted within this launch: what `sender` has sent of it, and what became of it, as `reader`
 * finds it. */
template <class T>
DEVICE char* contribution(const Launch& launch, const hipcommNormArgs& args, uint32_t owner, uint64_t row,
                          uint32_t sender) {
    return staged_row<T>(launch, args, owner, row * args.common.world + sender);
}
template <class T>
DEVICE char* reduced(const Launch& launch, const hipcommNormArgs& args, uint32_t reader, uint32_t owner, uint64_t row) {
    return staged_row<T>(launch, args, reader, (args.common.world + owner) * args.count + row);
}

/* A row as its owner has left it: the residual is in it. */
template <class T>
struct ReducedRow {
    const char* row;
    static constexpr bool kWithResidual = true;

    DEVICE_MEMBER void load(uint32_t i, Slice<T>& sum) const { load_staged_slice(row, i, sum); }
    DEVICE_MEMBER bool failed() const { return false; }
    DEVICE_MEMBER void keep(uint32_t, const Slice<T>&) const {}
    DEVICE_MEMBER void again(uint32_t i, Slice<T>& v) const { load(i, v); }
};

/* Visit(owner, row of the owner in this launch, row of the call) for this block's rows; owners from `first` on. */
template <class Visit>
DEVICE void for_each_row(const hipcommNormArgs& args, const Geometry& g, uint32_t first, Visit visit) {
    const Owners owners = owners_of(args);
    const uint32_t world = args.common.world;
    NO_UNROLL
    for (uint64_t row = g.block; row < args.count; row += g.blocks) {
        NO_UNROLL
        for (uint32_t k = 0; k < world; ++k) {
            const uint32_t owner = first + k < world ? first + k : first + k - world;
            if (args.first + row < owners.rows(owner)) visit(owner, row, owners.first(owner) + args.first + row);
        }
    }
}

template <class T>
DEVICE void push_rows(const Launch& launch, const hipcommNormArgs& args) {
    for_each_row(args, launch.geometry, args.common.rank, [&](uint32_t owner, uint64_t row, uint64_t token) {
        if (owner == args.common.rank) return;
        stage_row(launch, contribution<T>(launch, args, owner, row, args.common.rank),
                  row_of<T>(args.common.send, args.x_stride, token, args.hidden));
    });
}

template <class T>
DEVICE void reduce_rows(const Launch& launch, const hipcommNormArgs& args) {
    const Geometry& g = launch.geometry;
    const Owners owners = owners_of(args);
    const uint32_t self = args.common.rank, world = args.common.world;
    NO_UNROLL
    for (uint64_t row = g.block; row < args.count && args.first + row < owners.rows(self); row += g.blocks) {
        const uint64_t token = owners.first(self) + args.first + row;
        const Message x = row_of<T>(args.common.send, args.x_stride, token, args.hidden);
        NO_UNROLL
        for (uint32_t i = g.thread; i < slices_of<T>(args.hidden); i += g.threads) {
            Slice<T> v;
            sum_slices<T>(
                launch.args,
                [&](uint32_t rank, Slice<T>& slice) {
                    if (rank == self)
                        load_slice(x, i, slice);
                    else
                        load_staged_slice(contribution<T>(launch, args, self, row, rank), i, slice);
                },
                v);
            add_residual_slice(args, token, i, v);
            NO_UNROLL
            for (uint32_t k = 1; k <= world; ++k) { /* every rank begins with another peer */
                const uint32_t reader = self + k < world ? self + k : self + k - world;
                store_staged_slice(reduced<T>(launch, args, reader, self, row), i, v);
            }
        }
    }
}

template <class T, Norm kNorm>
DEVICE void finish_rows(const Launch& launch, const hipcommNormArgs& args) {
    RowMemory memory = row_memory(launch.geometry);
    for_each_row(args, launch.geometry, args.common.rank, [&](uint32_t owner, uint64_t row, uint64_t token) {
        finish_row<T, kNorm>(memory, args, token,
                             ReducedRow<T>{reduced<T>(launch, args, args.common.rank, owner, row)});
    });
}

template <class T, Norm kNorm>
DEVICE void all_reduce_norm_pipelined(const hipcommNormArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args.common, g);
    if (is_behind_failure(launch)) return end_launch(launch);
    push_rows<T>(new_phase(launch), new_sweep(args));
    signal_peers(launch, kPushed, 1);
    if (!wait_for_peers(launch, kPushed, 1)) return end_launch(launch);
    reduce_rows<T>(new_phase(launch), new_sweep(args));
    signal_peers(launch, kReduced, 1);
    if (!wait_for_peers(launch, kReduced, 1)) return end_launch(launch);
    finish_rows<T, kNorm>(new_phase(launch), new_sweep(args));
    end_launch(launch);
}

NORM_KERNELS(all_reduce_norm_pipelined, HIPCOMM_MAX_UNIT_THREADS)
