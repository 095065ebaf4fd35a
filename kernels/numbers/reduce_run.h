/* Reducing a run with one thread (the CPU): tile by tile through the first-level cache, in plain loops over
 * elements that the compiler turns into vector code. The order of operations is that of Reduction
 * (reduce.h), and so is the result. */
#pragma once

#include "reduce_packs.h"

/* Elements of a tile: its accumulators stay in the L1 cache. */
constexpr uint32_t kRunElements = 1024;

/* An element anywhere in memory. */
template <class T>
struct __attribute__((packed, may_alias)) Anywhere {
    T value;
};

/* The reduction over all ranks of `bytes` bytes (whole elements) of run_of(rank), for every receiver into
 * place_of(receiver); this rank is a receiver. A place may be a run, but may not overlap one otherwise. */
template <class T, class Op, class RunOf, class PlaceOf>
DEVICE void reduce_run(const hipcommKernelArgs& args, uint64_t bytes, Receivers receivers, RunOf run_of,
                       PlaceOf place_of) {
    using A = Accumulated<T>;
    alignas(64) A total[kRunElements];
    for (uint64_t offset = 0; offset < bytes; offset += kRunElements * sizeof(T)) {
        const uint64_t left = (bytes - offset) / sizeof(T);
        const uint32_t count = left < kRunElements ? uint32_t(left) : kRunElements;
        const auto run = [&](uint32_t rank) { return reinterpret_cast<const Anywhere<T>*>(run_of(rank) + offset); };
        const auto place = [&](uint32_t rank) { return reinterpret_cast<Anywhere<T>*>(place_of(rank) + offset); };
        const auto finish = [](A value) { return narrow_to(value, static_cast<T*>(nullptr)); };
        const auto *a = run(0), *b = run(1);
        auto* out = place(args.rank);
        if (args.world == 2 && !args.average) { /* nothing to keep: everything in one loop */
            auto* const other = place(receivers.count == 2 ? 1 - args.rank : args.rank);
            INDEPENDENT
            for (uint32_t i = 0; i < count; ++i) {
                const T value = finish(Op::template combine<T>(widen(a[i].value), widen(b[i].value)));
                out[i].value = value;
                other[i].value = value; /* the same place, if it is for nobody else: a store that costs nothing */
            }
            continue;
        }
        for (uint32_t i = 0; i < count; ++i)
            total[i] = Op::template combine<T>(widen(a[i].value), widen(b[i].value));
        for (uint32_t rank = 2; rank < args.world; ++rank) {
            const auto* next = run(rank);
            for (uint32_t i = 0; i < count; ++i)
                total[i] = Op::template combine<T>(total[i], widen(next[i].value));
        }
        if (args.average)
            for (uint32_t i = 0; i < count; ++i) total[i] = divide<T>(total[i], args.world);
        for (uint32_t i = 0; i < count; ++i) out[i].value = finish(total[i]);
        for (uint32_t i = 0; i < receivers.count; ++i) {
            const uint32_t receiver = (receivers.first + i) % args.world;
            if (receiver != args.rank) __builtin_memcpy(place(receiver), out, count * sizeof(T));
        }
    }
}
