/* NVIDIA GPUs, sm_80 and later. Ordering as in the PTX memory consistency model. */
#pragma once

/* "2": registers for two blocks of a kind on each SM, so that the launches of two communicators fit side by side:
 * blocks wait for their peers' blocks, and a launch that does not fit beside another one waits for its end. */
#define BLOCK_BOUNDS launch_bounds(MAX_THREADS, 2)

#include "gpu.h"

DEVICE uint32_t thread_index() { return __nvvm_read_ptx_sreg_tid_x(); }
DEVICE uint32_t block_index() { return __nvvm_read_ptx_sreg_ctaid_x(); }

/* Arguments are operands in constant memory: nothing to keep in registers (see amdgcn.h). */
DEVICE const hipcommKernelArgs& reload_args(const hipcommKernelArgs& args) { return args; }

DEVICE void one_by_one() {} /* this scheduler does not need to be told */
DEVICE uint32_t in_vector_register(uint32_t value) { return value; } /* all registers are alike */

DEVICE void block_barrier() { __nvvm_bar_sync(0); }

DEVICE void store_release(uint64_t* p, uint64_t v) {
    __scoped_atomic_store_n((GLOBAL(uint64_t)*)p, v, __ATOMIC_RELEASE, __MEMORY_SCOPE_SYSTEM);
}
DEVICE void store_release(uint32_t* p, uint32_t v) {
    __scoped_atomic_store_n((GLOBAL(uint32_t)*)p, v, __ATOMIC_RELEASE, __MEMORY_SCOPE_SYSTEM);
}

DEVICE void fence_system() { __scoped_atomic_thread_fence(__ATOMIC_SEQ_CST, __MEMORY_SCOPE_SYSTEM); }

/* Nanoseconds: WallClockRate of the nvidia platform says 1 GHz. */
DEVICE uint64_t clock_ticks() {
    uint64_t now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
}

DEVICE void spin_pause(uint32_t) {}

/* Programmatic dependent launch: the device sets a launch up, arguments and all, while the one before it on
 * the stream is ending. A kernel that is launched like that touches no memory before this has returned: then
 * the launch before is over and all its writes are visible. Nobody asks for the next launch before the end
 * (griddepcontrol.launch_dependents): that gained nothing, and its blocks would take up registers.
 * The symbol tells hipcomm/platforms/cuda that all kernels of this module keep to that. */
#if __CUDA_ARCH__ >= 900
DEVICE void await_previous_launch() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
extern "C" __attribute__((device, used)) uint32_t hipcomm_kernels_await_previous_launch = 1;
#else
DEVICE void await_previous_launch() {}
#endif

/* A part of a line is two words: a vector access is treated as that many single accesses of its element
 * type, each of which is the 64-bit relaxed system-scope atomic that the line needs (PTX ISA, "vector
 * data types"). A group is a warp's worth. */
constexpr uint32_t kPartWords = 2;
constexpr uint32_t kLineGroup = 32;

DEVICE void store_part(uint64_t* part, Pack pack, uint32_t word, uint32_t epoch) {
    asm volatile("st.relaxed.sys.global.v2.b64 [%0], {%1, %2};" ::"l"((GLOBAL(uint64_t)*)part),
                 "l"(uint64_t(epoch) << 32 | pack[word]), "l"(uint64_t(epoch) << 32 | pack[word + 1])
                 : "memory");
}
DEVICE bool load_part(const uint64_t* part, Pack& pack, uint32_t word, uint32_t epoch) {
    uint64_t first, second;
    asm volatile("ld.relaxed.sys.global.v2.b64 {%0, %1}, [%2];"
                 : "=l"(first), "=l"(second)
                 : "l"((const GLOBAL(uint64_t)*)part)
                 : "memory");
    pack[word] = uint32_t(first);
    pack[word + 1] = uint32_t(second);
    return uint32_t(first >> 32) == epoch && uint32_t(second >> 32) == epoch;
}

/* Staging memory: the signal that follows (release, acquire) orders plain accesses, whose vectors are
 * 16 bytes wide. The load goes past L1, which a peer's write does not invalidate. */
DEVICE Pack load_staged(const void* p) {
    uint64_t low, high;
    asm volatile("ld.relaxed.sys.global.v2.b64 {%0, %1}, [%2];"
                 : "=l"(low), "=l"(high)
                 : "l"((const GLOBAL(uint64_t)*)p)
                 : "memory");
    return Pack{uint32_t(low), uint32_t(low >> 32), uint32_t(high), uint32_t(high >> 32)};
}
DEVICE void store_staged(void* p, Pack pack) { store_pack(p, pack); }

/* Ranks whose packs a reduction loads together. */
constexpr uint32_t kRanksInFlight = 4;

#include "gpu_copy.h"
