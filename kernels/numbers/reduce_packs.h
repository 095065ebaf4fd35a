/* Reducing packs that every rank has: the loop of all kernels that read all contributions from memory. */
#pragma once

#include "reduce.h"

/* The ranks that a result goes to: `count` of them from `first` on, round the world. */
struct Receivers {
    uint32_t first;
    uint32_t count;
};

/* A thread's packs: first, first + stride, ... before end. */
template <class Index>
struct PacksOfThread {
    Index first;
    Index end;
    Index stride;
};

/* Reduce load(rank, i) over the ranks, in rank order, and store(rank, i, result) for the receivers. Packs of kRanks
 * ranks are loaded together: one after the other would cost a latency each. (Several packs of each rank would be more
 * than the registers hold: 1-byte types have 16 accumulators a pack.) */
template <class T, class Op, uint32_t kRanks, class Index, class Load, class Store>
DEVICE void reduce_packs(const hipcommKernelArgs& args, const PacksOfThread<Index>& packs, const Receivers& receivers,
                         Load load, Store store) {
    NO_UNROLL
    for (Index i = packs.first; i < packs.end; i += packs.stride) {
        Reduction<T, Op> reduction;
        NO_UNROLL
        for (uint32_t first = 0; first < args.world; first += kRanks) {
            Pack loaded[kRanks]{};
            UNROLL(8)
            for (uint32_t r = 0; r < kRanks; ++r)
                if (first + r < args.world) loaded[r] = load(first + r, i);
            UNROLL(8)
            for (uint32_t r = 0; r < kRanks; ++r)
                if (first + r < args.world) reduction.start_or_add(first + r == 0, loaded[r], args);
        }
        const Pack result = reduction.finish(args);
        NO_UNROLL
        for (uint32_t r = 0; r < receivers.count; ++r) store((receivers.first + r) % args.world, i, result);
    }
}
