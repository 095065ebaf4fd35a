/* Reducing packs that every rank has: the loop of all kernels that read all contributions from memory. */
#pragma once

#include "launch.h"
#include "reduce.h"

/* The ranks that a result goes to: `count` of them from `first` on, round the world. */
struct Receivers {
    uint32_t first;
    uint32_t count;
};

/* A thread's packs: first, first + apart, ... (kLines of them at a time), then those a stride further; all
 * before end. */
template <class Index>
struct PacksOfThread {
    Index first;
    Index end;
    uint32_t apart;
    Index stride;
};

/* Reduce load(rank, i) over the ranks, in rank order, and store(rank, i, result) for the receivers. kLines packs
 * of kRanks ranks are loaded together: one after the other would cost a latency each. */
template <class T, class Op, uint32_t kLines, uint32_t kRanks, class Index, class Load, class Store>
DEVICE void reduce_packs(const hipcommKernelArgs& args, const PacksOfThread<Index>& packs, const Receivers& receivers,
                         Load load, Store store) {
    NO_UNROLL
    for (Index base = packs.first; base < packs.end; base += packs.stride) {
        Reduction<T, Op> reduction[kLines];
        NO_UNROLL
        for (uint32_t first = 0; first < args.world; first += kRanks) {
            Pack loaded[kRanks][kLines]{};
            UNROLL(8)
            for (uint32_t r = 0; r < kRanks; ++r) {
                UNROLL(8)
                for (uint32_t k = 0; k < kLines; ++k)
                    if (first + r < args.world && base + k * packs.apart < packs.end)
                        loaded[r][k] = load(first + r, base + k * packs.apart);
            }
            UNROLL(8)
            for (uint32_t r = 0; r < kRanks; ++r) {
                if (first + r >= args.world) continue;
                UNROLL(8)
                for (uint32_t k = 0; k < kLines; ++k)
                    reduction[k].start_or_add(first + r == 0, loaded[r][k], args);
            }
        }
        Pack results[kLines];
        UNROLL(8)
        for (uint32_t k = 0; k < kLines; ++k) results[k] = reduction[k].finish(args);
        NO_UNROLL
        for (uint32_t i = 0; i < receivers.count; ++i) {
            const uint32_t rank = (receivers.first + i) % args.world;
            UNROLL(8)
            for (uint32_t k = 0; k < kLines; ++k)
                if (base + k * packs.apart < packs.end) store(rank, base + k * packs.apart, results[k]);
        }
    }
}

/* Lines and ranks that fit into the registers: 1-byte types have 16 accumulators a pack. */
template <class T>
constexpr uint32_t kLinesOf = 1;
