/* Reducing a run of packs with one thread (the CPU): tile by tile through the first-level cache, in plain
 * loops over elements that the compiler turns into vector code. The order of operations is that of
 * Reduction (reduce.h), and so is the result. */
#pragma once

#include "reduce.h"

/* Elements of a tile: accumulators of up to 8 bytes and the narrowed result stay in the L1 cache. */
constexpr uint32_t kRunElements = 1024;

/* results[i] = the reduction of rank_run(0)[i], rank_run(1)[i], ... for `bytes` bytes of whole elements;
 * emit(offset, tile, bytes) takes each finished tile. */
template <class T, class Op, class RankRun, class Emit>
DEVICE void reduce_run(const hipcommKernelArgs& args, uint64_t bytes, RankRun rank_run, Emit emit) {
    using A = Accumulated<T>;
    alignas(64) A total[kRunElements];
    alignas(64) T tile[kRunElements];
    for (uint64_t offset = 0; offset < bytes; offset += kRunElements * sizeof(T)) {
        const uint64_t left = (bytes - offset) / sizeof(T);
        const uint32_t count = left < kRunElements ? uint32_t(left) : kRunElements;
        for (uint32_t rank = 0; rank < args.world; ++rank) {
            __builtin_memcpy(tile, rank_run(rank) + offset, count * sizeof(T)); /* runs have any alignment */
            if (rank == 0)
                for (uint32_t i = 0; i < count; ++i) total[i] = widen(tile[i]);
            else
                for (uint32_t i = 0; i < count; ++i) total[i] = Op::template combine<T>(total[i], widen(tile[i]));
        }
        if (args.average)
            for (uint32_t i = 0; i < count; ++i) total[i] = divide<T>(total[i], args.world);
        for (uint32_t i = 0; i < count; ++i) tile[i] = narrow_to(total[i], static_cast<T*>(nullptr));
        emit(offset, reinterpret_cast<const char*>(tile), count * sizeof(T));
    }
}
