/* AMD GPUs: gfx9 (CDNA), gfx11, gfx12. Ordering as in the AMDGPU memory model of LLVM's
 * "User Guide for AMDGPU Backend"; docs/amd.md says which instructions it becomes, and why it holds. */
#pragma once

/* For amdgcn clang ignores launch_bounds without HIP's headers, which translate it like this: without it
 * registers are allotted for 1024 threads, half as many as the 512 that are launched may have. */
#define BLOCK_BOUNDS(most_threads) amdgpu_flat_work_group_size(1, most_threads)

#include "gpu.h"

DEVICE uint32_t thread_index() { return __builtin_amdgcn_workitem_id_x(); }
DEVICE uint32_t block_index() { return __builtin_amdgcn_workgroup_id_x(); }

/* Wait until all vector memory operations of this wave are complete. Only where the compiler does not do
 * so itself: from gfx10 on it waits for the stores at every release, cache write-backs included. */
DEVICE void wait_for_memory() {
#if defined(__GFX9__)
    __builtin_amdgcn_s_waitcnt(0x0f70); /* vmcnt(0), all other counters at their maximum */
#endif
}

/* The arguments, read anew from the kernel argument segment. A compiler that sees one kernel as one
 * function keeps every field it has read in scalar registers, and runs out of them in kernels of many
 * phases; a phase that starts with this needs only its own. */
DEVICE const hipcommKernelArgs& reload_args(const hipcommKernelArgs&) {
    typedef const __attribute__((address_space(4))) hipcommKernelArgs* Segment;
    auto segment = (Segment)__builtin_amdgcn_kernarg_segment_ptr();
    asm volatile("" : "+s"(segment)); /* hides where the pointer comes from */
    return *(const hipcommKernelArgs*)segment;
}

/* Keeps the scheduler from interleaving what comes before and after: the conditions of many independent
 * computations at once need more scalar registers than there are. */
DEVICE void one_by_one() { __builtin_amdgcn_sched_barrier(0); }

/* A value that is the same for all threads, in a vector register all the same: for where scalar ones run
 * out. */
DEVICE uint32_t in_vector_register(uint32_t value) {
    asm("" : "+v"(value));
    return value;
}

/* See nvptx.h. */
DEVICE uint32_t anew(uint32_t value) {
    asm volatile("" : "+v"(value));
    return value;
}

/* Of a product that is rounded to float16, clang 22.1 makes one instruction on gfx11 and gfx12, which adds +0 and so
 * takes its sign from a zero (llvm/llvm-project#214544, fixed after 22.1). Not if it cannot see the product. */
DEVICE uint16_t float_to_half(float value) {
#if !defined(__GFX9__)
    asm("" : "+v"(value));
#endif
    return __builtin_bit_cast(uint16_t, _Float16(value));
}

/* Warps: all lanes call, each gets the value of lane ^ mask. */
#define HAS_WARPS
#if defined(__GFX9__)
constexpr uint32_t kWarp = 64;
#else
constexpr uint32_t kWarp = 32;
#endif
DEVICE uint32_t shuffle_xor(uint32_t value, uint32_t mask) {
    const uint32_t lane = __builtin_amdgcn_workitem_id_x() % kWarp;
    return uint32_t(__builtin_amdgcn_ds_bpermute(int((lane ^ mask) * 4), int(value)));
}
DEVICE float shuffle_xor(float value, uint32_t mask) {
    return __builtin_bit_cast(float, shuffle_xor(__builtin_bit_cast(uint32_t, value), mask));
}
DEVICE bool any_lane(bool value) {
#if defined(__GFX9__)
    return __builtin_amdgcn_ballot_w64(value) != 0;
#else
    return __builtin_amdgcn_ballot_w32(value) != 0;
#endif
}

/* Release and acquire at workgroup scope around the hardware barrier, as __syncthreads() is; and more: a
 * signal that one wave sends afterwards covers the stores of all waves. On gfx9 a release at workgroup
 * scope does not wait for stores, because the waves of a block share their first-level cache; but the
 * release at system scope that follows waits only for stores of the wave that executes it. */
DEVICE void block_barrier() {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
    wait_for_memory();
    __builtin_amdgcn_s_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}

/* A release at system scope writes the L2 back, which takes a while. clang 22.1 drops the wait for it
 * where it knows of no other access that is outstanding (llvm/llvm-project#178316). */
DEVICE void release_system() {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "");
    wait_for_memory();
}
template <class T>
DEVICE void store_release(T* p, T value) {
    release_system();
    store_relaxed(p, value);
}
DEVICE void fence_system() {
    release_system();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "");
}

/* The constant-rate clock, 100 MHz on gfx9; the host asks for hipDeviceAttributeWallClockRate. */
DEVICE uint64_t clock_ticks() { return __builtin_readsteadycounter(); }

DEVICE bool spin_pause(uint32_t spins) {
    __builtin_amdgcn_s_sleep(0);
    return spins % kSpinsPerCheck == 0;
}

/* A launch begins when the one before it on the stream is over (see nvptx.h). */
DEVICE void await_previous_launch() {}

/* Whether a release waits for stores that other waves have under way (staged/stagger.h). Derived: s_waitcnt counts
 * the own wave's; what writing back the L2 waits for has to be measured. */
constexpr bool kReleaseWaitsForAll = false;

/* A part of a line is one word: a 64-bit relaxed system-scope atomic is the widest access that the model
 * promises not to tear. A group is a wave's worth (two waves' on gfx11 and gfx12). */
constexpr uint32_t kPartBytes = 8;
constexpr uint32_t kPartData = 1;
constexpr uint32_t kLineGroup = 64;

#include "word_part.h"

/* Nothing is done to it before: see receive_units() in lines/unit.h. */
DEVICE void loaded_by_now(LinePart& part) {
    uint32_t low = uint32_t(part.bits), high = uint32_t(part.bits >> 32);
    asm volatile("" : "+v"(low), "+v"(high));
    part.bits = uint64_t(high) << 32 | low;
}

/* See nvptx.h. */
DEVICE void hold_packed(Pack& pack) { asm volatile("" : "+v"(pack)); }

/* Staging memory is written by peers while this kernel runs, and the local L2 may hold older copies
 * of it: system-scope atomics go past the caches in both directions (sc0 sc1). */
DEVICE Pack load_staged(const void* p) {
    const auto* words = (const GLOBAL(uint64_t)*)p;
    const uint64_t low = __scoped_atomic_load_n(words, __ATOMIC_RELAXED, __MEMORY_SCOPE_SYSTEM);
    const uint64_t high = __scoped_atomic_load_n(words + 1, __ATOMIC_RELAXED, __MEMORY_SCOPE_SYSTEM);
    return Pack{uint32_t(low), uint32_t(low >> 32), uint32_t(high), uint32_t(high >> 32)};
}
DEVICE void store_staged(void* p, Pack pack) {
    auto* words = (GLOBAL(uint64_t)*)p;
    __scoped_atomic_store_n(words, uint64_t(pack[1]) << 32 | pack[0], __ATOMIC_RELAXED,
                            __MEMORY_SCOPE_SYSTEM);
    __scoped_atomic_store_n(words + 1, uint64_t(pack[3]) << 32 | pack[2], __ATOMIC_RELAXED,
                            __MEMORY_SCOPE_SYSTEM);
}

/* Ranks whose packs a reduction loads together; with four, gfx9 runs out of scalar registers. */
constexpr uint32_t kRanksInFlight = 2;

#include "gpu_copy.h"
