/* What amdgcn and nvptx share: attributes, scoped atomics, vector memory accesses.
 *
 * No vendor header is included: clang's builtins are enough, so the kernels build without ROCm and
 * without a CUDA toolkit. Scoped atomics follow the target's memory model; "system" reaches the host
 * and the other GPUs.
 */
#pragma once

#include <stdint.h>

#include "../../hipcomm/abi/kernel_args.h"
#include "../../hipcomm/abi/slabs.h"

#define DEVICE static inline __attribute__((device, always_inline))
#define DEVICE_MEMBER __attribute__((device, always_inline))
#define IN_LINE __attribute__((always_inline)) /* of a lambda, after its parameters */
#define UNROLL(n) _Pragma(UNROLL_TEXT(unroll n))
/* loops over ranks: unrolling them costs registers and hides nothing */
#define NO_UNROLL _Pragma("unroll 1")
#define INDEPENDENT /* for loops of one thread */
#define UNROLL_TEXT(text) #text

/* Define kernel `name`, which calls function(args, geometry) in blocks of at most `most_threads` threads. Args is, or
 * begins with, hipcommKernelArgs. */
#define KERNEL(name, function, Args, most_threads)                                                               \
    extern "C" __attribute__((global, visibility("protected"), BLOCK_BOUNDS(most_threads))) void name(           \
        const Args args) {                                                                                       \
        const auto& common = reinterpret_cast<const hipcommKernelArgs&>(args);                                   \
        await_previous_launch();                                                                                 \
        function(args, Geometry{thread_index(), common.threads, block_index(), common.blocks, shared_scratch()}); \
    }

extern __attribute__((shared, aligned(16))) char hipcomm_shared_scratch[];

struct Geometry {
    uint32_t thread, threads, block, blocks;
    char* shared; /* scratch of the block */
};

DEVICE char* shared_scratch() { return hipcomm_shared_scratch; }

/* How often a wait looks at the clock and, over the bus, at the abort word. A spin is a load of about
 * half a microsecond, so this is every half millisecond. */
constexpr uint32_t kSpinsPerCheck = 1024;
constexpr uint32_t kSignalsPerCheck = 1; /* of other ranks, to find who makes another call */
DEVICE void let_host_look(const hipcommStatus*, uint64_t) {} /* it does not wait inside the launch */

#define GLOBAL(type) __attribute__((address_space(1))) type

/* A pointer that was kept as a number. The compiler cannot see where it comes from and so must be told
 * that it is none of shared memory. */
DEVICE char* global_pointer(uint64_t address) { return (char*)(GLOBAL(char)*)address; }
#define SHARED(type) __attribute__((address_space(3))) type

/* A word of the block's scratch that several threads touch between barriers. */
DEVICE uint32_t load_scratch(const uint32_t* p) { return *(volatile SHARED(uint32_t)*)p; }
DEVICE void store_scratch(uint32_t* p, uint32_t v) { *(volatile SHARED(uint32_t)*)p = v; }

DEVICE uint32_t load_relaxed(const uint32_t* p) {
    return __scoped_atomic_load_n((const GLOBAL(uint32_t)*)p, __ATOMIC_RELAXED, __MEMORY_SCOPE_SYSTEM);
}
DEVICE uint32_t exchange(uint32_t* p, uint32_t v) {
    return __scoped_atomic_exchange_n((GLOBAL(uint32_t)*)p, v, __ATOMIC_ACQ_REL, __MEMORY_SCOPE_DEVICE);
}

DEVICE uint64_t load_relaxed(const uint64_t* p) {
    return __scoped_atomic_load_n((const GLOBAL(uint64_t)*)p, __ATOMIC_RELAXED, __MEMORY_SCOPE_SYSTEM);
}
DEVICE void store_relaxed(uint64_t* p, uint64_t v) {
    __scoped_atomic_store_n((GLOBAL(uint64_t)*)p, v, __ATOMIC_RELAXED, __MEMORY_SCOPE_SYSTEM);
}
DEVICE void store_relaxed(uint32_t* p, uint32_t v) {
    __scoped_atomic_store_n((GLOBAL(uint32_t)*)p, v, __ATOMIC_RELAXED, __MEMORY_SCOPE_SYSTEM);
}
DEVICE void acquire_system() { __scoped_atomic_thread_fence(__ATOMIC_ACQUIRE, __MEMORY_SCOPE_SYSTEM); }

/* Conversions and comparisons that the hardware has; the CPU's are in cpu.h, with the same results. */
DEVICE float half_to_float(uint16_t bits) { return float(__builtin_bit_cast(_Float16, bits)); }
template <class F>
DEVICE F float_maximum(F a, F b) {
    return __builtin_elementwise_maximum(a, b);
}
template <class F>
DEVICE F float_minimum(F a, F b) {
    return __builtin_elementwise_minimum(a, b);
}

/* 16-byte accesses need 16-byte alignment. */
constexpr bool kUnalignedPacks = false;

typedef uint32_t Pack __attribute__((vector_size(16)));

/* Words and packs of memory that only this rank touches while the kernel runs, at addresses of their alignment. */
DEVICE uint32_t load_word(const void* p) { return *(const GLOBAL(uint32_t)*)p; }
DEVICE void store_word(void* p, uint32_t word) { *(GLOBAL(uint32_t)*)p = word; }
DEVICE Pack load_pack(const void* p) { return *(const GLOBAL(Pack)*)p; }
DEVICE void store_pack(void* p, Pack pack) { *(GLOBAL(Pack)*)p = pack; }

/* Packs that one thread keeps in flight: enough to cover the latency of memory with the threads of one
 * block per compute unit. */
constexpr uint32_t kPacksInFlight = 4;
constexpr bool kOneThread = false;

/* Copy whole packs between the caller's memory and staging memory, all threads side by side. */
template <class Load, class Store>
DEVICE void copy_packs(uint32_t packs, const Geometry& g, Load load, Store store) {
    NO_UNROLL
    for (uint32_t base = g.thread; base < packs; base += g.threads * kPacksInFlight) {
        Pack pack[kPacksInFlight];
        UNROLL(8)
        for (uint32_t k = 0; k < kPacksInFlight; ++k)
            if (base + k * g.threads < packs) pack[k] = load(base + k * g.threads);
        UNROLL(8)
        for (uint32_t k = 0; k < kPacksInFlight; ++k)
            if (base + k * g.threads < packs) store(base + k * g.threads, pack[k]);
    }
}
