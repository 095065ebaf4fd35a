/* Reducing a run with one thread (the CPU): tile by tile through the first-level cache, in plain loops over
 * elements that the compiler turns into vector code. The order of operations is that of Reduction
 * (reduce.h), and so is the result. */
#pragma once

#include "reduce.h"

/* Elements of a tile: its accumulators stay in the L1 cache. */
constexpr uint32_t kRunElements = 1024;

/* An element anywhere in memory. */
template <class T>
struct __attribute__((packed, may_alias)) Anywhere {
    T value;
};

/* result[i] = the reduction over all ranks of run_of(rank)[i], for `bytes` bytes of whole elements; then
 * done(offset, bytes) for every finished tile, while it is in the cache. */
template <class T, class Op, class RunOf, class Done>
DEVICE void reduce_run(const hipcommKernelArgs& args, uint64_t bytes, char* result, RunOf run_of, Done done) {
    using A = Accumulated<T>;
    alignas(64) A total[kRunElements];
    for (uint64_t offset = 0; offset < bytes; offset += kRunElements * sizeof(T)) {
        const uint64_t left = (bytes - offset) / sizeof(T);
        const uint32_t count = left < kRunElements ? uint32_t(left) : kRunElements;
        const auto at = [&](uint32_t rank) { return reinterpret_cast<const Anywhere<T>*>(run_of(rank) + offset); };
        auto* out = reinterpret_cast<Anywhere<T>*>(result + offset);
        const auto finish = [](A value) { return narrow_to(value, static_cast<T*>(nullptr)); };
        const auto *a = at(0), *b = at(1);
        if (args.world == 2 && !args.average) { /* nothing to keep: one loop instead of two */
            for (uint32_t i = 0; i < count; ++i)
                out[i].value = finish(Op::template combine<T>(widen(a[i].value), widen(b[i].value)));
            done(offset, count * sizeof(T));
            continue;
        }
        for (uint32_t i = 0; i < count; ++i)
            total[i] = Op::template combine<T>(widen(a[i].value), widen(b[i].value));
        for (uint32_t rank = 2; rank < args.world; ++rank) {
            const auto* next = at(rank);
            for (uint32_t i = 0; i < count; ++i)
                total[i] = Op::template combine<T>(total[i], widen(next[i].value));
        }
        if (args.average)
            for (uint32_t i = 0; i < count; ++i) total[i] = divide<T>(total[i], args.world);
        for (uint32_t i = 0; i < count; ++i) out[i].value = finish(total[i]);
        done(offset, count * sizeof(T));
    }
}
