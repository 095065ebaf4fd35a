/* Direct kernels that reduce: packs are read from all ranks' inputs, and the result goes to some ranks. */
#pragma once

#include "direct.h"
#include "reduce.h"

/* The ranks that a result goes to: `count` of them from `first` on, round the world. */
struct Receivers {
    uint32_t first;
    uint32_t count;
};

/* Reduce packs begin .. end - 1, kInFlight per thread at a time; the blocks side by side. */
template <class T, class Op, uint32_t kInFlight, class Load, class Store>
DEVICE void reduce_packs(const Launch& whole_launch, uint64_t begin, uint64_t end, const Receivers& receivers,
                         Load load, Store store) {
    const Launch launch = new_phase(whole_launch);
    const hipcommKernelArgs& args = launch.args;
    const Geometry& g = launch.geometry;
    const uint64_t step = uint64_t(g.threads) * kInFlight;
    for (uint64_t base = begin + g.block * step + g.thread; base < end; base += g.blocks * step) {
        Reduction<T, Op> reduction[kInFlight];
        Pack packs[kInFlight]{};
        NO_UNROLL
        for (uint32_t rank = 0; rank < args.world; ++rank) {
            UNROLL(8)
            for (uint32_t k = 0; k < kInFlight; ++k)
                if (base + k * g.threads < end) packs[k] = load(rank, base + k * g.threads);
            UNROLL(8)
            for (uint32_t k = 0; k < kInFlight; ++k) reduction[k].start_or_add(rank == 0, packs[k], args);
        }
        UNROLL(8)
        for (uint32_t k = 0; k < kInFlight; ++k) packs[k] = reduction[k].finish(args);
        NO_UNROLL
        for (uint32_t i = 0; i < receivers.count; ++i) {
            const uint32_t rank = (receivers.first + i) % args.world;
            UNROLL(8)
            for (uint32_t k = 0; k < kInFlight; ++k)
                if (base + k * g.threads < end) store(rank, base + k * g.threads, packs[k]);
        }
    }
}
