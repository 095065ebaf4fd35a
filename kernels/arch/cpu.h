/* The CPU as a target: a block has one thread, a warp has one lane, blocks run one after another.
 *
 * Ranks are processes (or threads) that share memory; "system scope" is the cache-coherent machine.
 * Atomics are the compiler's, which also order the plain accesses around them. Compiles with g++.
 */
#pragma once

#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "../../hipcomm/abi/kernel_args.h"
#include "../../hipcomm/abi/slabs.h"
#include "../../hipcomm/platforms/cpu/kernel_abi.h"

/* The compiler decides what to inline: to force it takes three times as long to compile and leaves the loops as they
 * are. */
#define DEVICE static inline
#define DEVICE_MEMBER
#define IN_LINE
#define NO_UNROLL
#define UNROLL(n) /* one thread has nothing to overlap; let the vectoriser decide */
/* no pass of the loop reads what another writes: it may be vectorised */
#ifdef __clang__
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

/* Define kernel `name`, which calls function(args, geometry). Args is, or begins with, hipcommKernelArgs. A block
 * has one thread, however many it may have elsewhere. Its arguments are declared as kernel_abi.h says, so that a capture
 * copies as many bytes as there are. */
#define KERNEL(name, function, Args, most_threads)                                                    \
    extern "C" __attribute__((visibility("default"))) const uint32_t name##_kernargs[3];              \
    const uint32_t name##_kernargs[3] = {1, sizeof(Args), alignof(Args)};                             \
    extern "C" __attribute__((visibility("default"))) void name(const void* kernarg,                  \
                                                                const hipcommCpuBlock* block) {       \
        const auto& common = *static_cast<const hipcommKernelArgs*>(kernarg);                         \
        function(*static_cast<const Args*>(kernarg),                                                  \
                 Geometry{0, 1, block->block[0], common.blocks, static_cast<char*>(block->shared)});  \
    }

struct Geometry {
    uint32_t thread, threads, block, blocks;
    char* shared; /* scratch of the block */
};

DEVICE const hipcommKernelArgs& reload_args(const hipcommKernelArgs& args) { return args; }
DEVICE void one_by_one() {} /* this scheduler does not need to be told */
DEVICE uint32_t in_vector_register(uint32_t value) { return value; } /* all registers are alike */
DEVICE uint32_t anew(uint32_t value) { return value; }

DEVICE char* global_pointer(uint64_t address) { return reinterpret_cast<char*>(address); }
DEVICE void block_barrier() {}
DEVICE bool any_lane(bool value) { return value; }

/* Nanoseconds of the monotonic clock: one tick is what WallClockRate of the CPU platform says. */
DEVICE uint64_t clock_ticks() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return uint64_t(now.tv_sec) * 1000000000u + uint64_t(now.tv_nsec);
}

/* How often a wait looks at the clock and the abort word; and after a yield that took this long. Where programs that
 * compute want the core, a yield costs all of their slices: 256 of them were 20 s with a dozen busy processes. */
constexpr uint32_t kSpinsPerCheck = 256;
constexpr uint64_t kLongYieldTicks = 100000;
constexpr uint32_t kSignalsPerCheck = HIPCOMM_MAX_RANKS; /* of other ranks, to find who makes another call */

/* The host waits inside the launch: now and then it looks whether a signal has come (hipcommCommSetInterrupt), and
 * sets the abort word if that ends the call. */
constexpr uint64_t kHostLookTicks = 50000000;
DEVICE void let_host_look(const hipcommStatus* status, uint64_t now) {
    static thread_local uint64_t looked = 0;
    if (status->host_look == 0 || now - looked < kHostLookTicks) return;
    looked = now;
    reinterpret_cast<void (*)(uint64_t)>(status->host_look)(status->host_context);
}

/* Ranks may outnumber cores: after a short spin (about the time a peer on another core needs to answer)
 * give the core away at every turn. How short is learnt, as TCP learns its window: if somebody else takes the
 * core that a wait has given away, that halves the patience of the next; and every wait adds one. Ranks with a
 * core each keep spinning, however late their peers are; ranks that share one yield almost at once. */
constexpr uint32_t kMostPatience = 64;
constexpr uint32_t kLeastPatience = 2;
constexpr uint64_t kYieldTicks = 1200; /* a yield takes 400 if nobody wants the core, and 2500 there and back */
static thread_local uint32_t patience = kMostPatience;

DEVICE uint64_t timed_yield() {
    const uint64_t before = clock_ticks();
    sched_yield();
    return clock_ticks() - before;
}

/* Let time pass between two looks at what is awaited; whether it is time to look at clock and abort word too. */
DEVICE bool spin_pause(uint32_t spins) {
    if (spins == 1 && patience < kMostPatience) ++patience;
    if (spins < patience) {
        __builtin_ia32_pause();
        return false;
    }
    const uint64_t yielded = timed_yield();
    if (spins == patience && patience / 2 >= kLeastPatience && yielded > kYieldTicks) patience /= 2;
    return yielded > kLongYieldTicks || spins % kSpinsPerCheck == 0;
}

DEVICE uint32_t load_relaxed(const uint32_t* p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
DEVICE void store_release(uint64_t* p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
DEVICE void store_release(uint32_t* p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
DEVICE uint32_t exchange(uint32_t* p, uint32_t v) {
    return __atomic_exchange_n(p, v, __ATOMIC_ACQ_REL);
}

DEVICE uint64_t load_relaxed(const uint64_t* p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
DEVICE void store_relaxed(uint64_t* p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
DEVICE void store_relaxed(uint32_t* p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
DEVICE void acquire_system() { __atomic_thread_fence(__ATOMIC_ACQUIRE); }
DEVICE void fence_system() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

/* A word of the block's scratch. */
DEVICE uint32_t load_scratch(const uint32_t* p) { return *p; }
DEVICE void store_scratch(uint32_t* p, uint32_t v) { *p = v; }

/* Vector loads and stores work at any address. */
constexpr bool kUnalignedPacks = true;

typedef uint32_t Pack __attribute__((vector_size(16)));

/* Words and packs of memory that only this rank touches while the kernel runs. */
DEVICE uint32_t load_word(const void* p) {
    uint32_t word;
    memcpy(&word, p, sizeof word);
    return word;
}
DEVICE void store_word(void* p, uint32_t word) { memcpy(p, &word, sizeof word); }
DEVICE Pack load_pack(const void* p) {
    Pack pack;
    memcpy(&pack, p, sizeof pack);
    return pack;
}
DEVICE void store_pack(void* p, Pack pack) { memcpy(p, &pack, sizeof pack); }

DEVICE void hold_packed(Pack&) {} /* vectors stay in memory */

/* A pack of staging memory that several ranks touch while the kernel runs; a signal orders it. */
DEVICE Pack load_staged(const void* p) { return load_pack(p); }
DEVICE void store_staged(void* p, Pack pack) { store_pack(p, pack); }

#include "../numbers/bits.h"

/* float16 with integer arithmetic: g++ 12 has no _Float16 in C++. */
DEVICE float half_to_float(uint16_t half) {
    const uint32_t sign = uint32_t(half & 0x8000u) << 16;
    const uint32_t magnitude = half & 0x7fffu;
    const uint32_t normal = (magnitude << 13) + (112u << 23);          /* exponent bias 15 -> 127 */
    const uint32_t special = (magnitude << 13) | 0x7f800000u;          /* infinity, NaN */
    const uint32_t denormal = bits_of_float(float(int(magnitude)) * 0x1p-24f); /* exact */
    const uint32_t bits = magnitude >= 0x7c00u ? special : magnitude >= 0x0400u ? normal : denormal;
    return float_from_bits(sign | bits);
}

DEVICE uint16_t float_to_half(float value) {
    const uint32_t bits = bits_of_float(value);
    const uint32_t sign = bits >> 16 & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    /* the odd bit makes the tie go to even; a carry into the exponent is right, also into infinity */
    const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1)) >> 13;
    /* adding 0.5 leaves the multiple of 2^-24 in the low bits, rounded by the adder itself */
    const uint32_t denormal = bits_of_float(float_from_bits(magnitude) + 0.5f) - bits_of_float(0.5f);
    const uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
    const uint32_t half = magnitude >= 0x47800000u   ? special  /* 65536 and more */
                          : magnitude >= 0x38800000u ? normal   /* 2^-14 and more */
                                                     : denormal;
    return uint16_t(sign | half);
}

/* IEEE 754-2019 maximum and minimum: a NaN wins, -0 < +0. */
template <class F>
DEVICE F float_maximum(F a, F b) {
    const F equal = __builtin_signbit(a) ? b : a;
    return a != a || b != b ? a + b : a == b ? equal : a > b ? a : b;
}
template <class F>
DEVICE F float_minimum(F a, F b) {
    const F equal = __builtin_signbit(a) ? a : b;
    return a != a || b != b ? a + b : a == b ? equal : a < b ? a : b;
}

/* Packs that one thread keeps in flight. */
constexpr uint32_t kPacksInFlight = 1;
constexpr uint32_t kRanksInFlight = 1;
constexpr bool kOneThread = true;

/* Copy whole packs between the caller's memory and staging memory. */
DEVICE void copy_to_staging(char* to, const char* from, uint32_t packs, const Geometry&) {
    memcpy(to, from, uint64_t(packs) * HIPCOMM_PACK_BYTES);
}
DEVICE void copy_from_staging(char* to, const char* from, uint32_t packs, const Geometry&) {
    memcpy(to, from, uint64_t(packs) * HIPCOMM_PACK_BYTES);
}

/* Whether a release waits for stores that other threads of the block have under way (staged/stagger.h). */
constexpr bool kReleaseWaitsForAll = false;

/* A part of a line (launch/line.h): one word, stored and loaded as one relaxed atomic, so a word whose
 * epoch is right holds the right data. One thread wants one line in one place: groups of one. */
constexpr uint32_t kPartBytes = 8;
constexpr uint32_t kPartData = 1;
constexpr uint32_t kLineGroup = 1;

#include "word_part.h"

/* Nothing is done to it before: see receive_units() in lines/unit.h. */
DEVICE void loaded_by_now(LinePart& part) { asm volatile("" : "+r"(part.bits)); }
