/* AMD GPUs: gfx9 (CDNA), gfx11, gfx12. Ordering as in the AMDGPU memory model of LLVM's
 * "User Guide for AMDGPU Backend"; docs/architecture.md says which instructions it becomes. */
#pragma once

#include "gpu.h"

DEVICE uint32_t thread_index() { return __builtin_amdgcn_workitem_id_x(); }
DEVICE uint32_t block_index() { return __builtin_amdgcn_workgroup_id_x(); }

/* Release and acquire at workgroup scope around the hardware barrier, as __syncthreads() is. */
DEVICE void block_barrier() {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
    __builtin_amdgcn_s_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}

/* The constant-rate clock (100 MHz on all current parts; the host asks WallClockRate). */
DEVICE uint64_t clock_ticks() { return __builtin_readsteadycounter(); }

DEVICE void spin_pause(uint32_t) { __builtin_amdgcn_s_sleep(0); }

/* Lines live in uncached memory and go word by word: a 64-bit relaxed system-scope atomic is the
 * widest access that the model promises not to tear. */
DEVICE void store_line(uint64_t* line, Pack pack, uint32_t epoch) {
    for (int i = 0; i < 4; ++i)
        __scoped_atomic_store_n((GLOBAL(uint64_t)*)line + i, uint64_t(epoch) << 32 | pack[i],
                                __ATOMIC_RELAXED, __MEMORY_SCOPE_SYSTEM);
}
DEVICE bool load_line(const uint64_t* line, Pack& pack, uint32_t epoch) {
    bool fresh = true;
    for (int i = 0; i < 4; ++i) {
        const uint64_t word = __scoped_atomic_load_n((const GLOBAL(uint64_t)*)line + i, __ATOMIC_RELAXED,
                                                     __MEMORY_SCOPE_SYSTEM);
        fresh &= uint32_t(word >> 32) == epoch;
        pack[i] = uint32_t(word);
    }
    return fresh;
}

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

#include "gpu_copy.h"
