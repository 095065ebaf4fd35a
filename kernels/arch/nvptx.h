/* NVIDIA GPUs, sm_80 and later. Ordering as in the PTX memory consistency model. */
#pragma once

/* Registers for two blocks of a kind on each SM, so that the launches of two communicators fit side by side:
 * blocks wait for their peers' blocks, and a launch that does not fit next to another one waits for its end. Blocks of
 * more threads are those that wait for nobody. */
#define BLOCK_BOUNDS(most_threads) launch_bounds(most_threads, (most_threads) > HIPCOMM_MAX_THREADS ? 1 : 2)

#include "gpu.h"

DEVICE uint32_t thread_index() { return __nvvm_read_ptx_sreg_tid_x(); }
DEVICE uint32_t block_index() { return __nvvm_read_ptx_sreg_ctaid_x(); }

/* Arguments are operands in constant memory: nothing to keep in registers (see amdgcn.h). */
DEVICE const hipcommKernelArgs& reload_args(const hipcommKernelArgs& args) { return args; }

DEVICE void one_by_one() {} /* this scheduler does not need to be told */
DEVICE uint32_t in_vector_register(uint32_t value) { return value; } /* all registers are alike */
/* A value that nothing is known of: what is computed from it is computed here, and not kept from before. */
DEVICE uint32_t anew(uint32_t value) {
    asm volatile("" : "+r"(value));
    return value;
}

DEVICE void block_barrier() { __nvvm_bar_sync(0); }

/* Warps: all lanes call, each gets the value of lane ^ mask. */
#define HAS_WARPS
constexpr uint32_t kWarp = 32;
DEVICE float shuffle_xor(float value, uint32_t mask) {
    return __nvvm_shfl_sync_bfly_f32(0xffffffffu, value, int(mask), kWarp - 1);
}
DEVICE uint32_t shuffle_xor(uint32_t value, uint32_t mask) {
    return uint32_t(__nvvm_shfl_sync_bfly_i32(0xffffffffu, int(value), int(mask), kWarp - 1));
}
DEVICE bool any_lane(bool value) { return __nvvm_vote_any_sync(0xffffffffu, value); }

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

/* Nothing at first: a pause would add to every call. But a thread that has waited for 20 us polls less often: with all
 * threads of 128 blocks polling, lines of 256 KiB messages were now and then held up for 0.6 ms, until the
 * pollers turned to their time-out check. */
DEVICE bool spin_pause(uint32_t spins) {
    if (UNLIKELY(spins > 32)) __nvvm_nanosleep(100);
    return spins % kSpinsPerCheck == 0;
}

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

/* Whether a release waits for stores that other warps have under way (staged/stagger.h): so it is inferred from
 * what helped (docs/journal.md). */
constexpr bool kReleaseWaitsForAll = true;

/* A part of a line: 12 bytes of data and the epoch, as one 128-bit relaxed atomic at system scope (PTX ISA 8.4,
 * ld and st of .b128 with .sys; what libcu++ makes of a 16-byte cuda::atomic_ref). Three packs fill four parts: a wide line.
 * A group is a warp's worth. */
constexpr uint32_t kPartBytes = 16;
constexpr uint32_t kPartData = 3;
constexpr uint32_t kLineGroup = 32;
#define HAS_WIDE_LINES

DEVICE void store_part(char* part, const uint32_t (&data)[kPartData], uint32_t epoch) {
    asm volatile(
        "{\n\t.reg .b128 part;\n\t"
        "mov.b128 part, {%1, %2};\n\t"
        "st.relaxed.sys.global.b128 [%0], part;\n\t}" ::"l"((GLOBAL(char)*)part),
        "l"(uint64_t(data[1]) << 32 | data[0]), "l"(uint64_t(epoch) << 32 | data[2])
        : "memory");
}
/* A part as it was loaded. */
struct LinePart {
    uint64_t low, high;
};
DEVICE LinePart load_part(const char* part) {
    LinePart loaded;
    asm volatile(
        "{\n\t.reg .b128 part;\n\t"
        "ld.relaxed.sys.global.b128 part, [%2];\n\t"
        "mov.b128 {%0, %1}, part;\n\t}"
        : "=l"(loaded.low), "=l"(loaded.high)
        : "l"((const GLOBAL(char)*)part)
        : "memory");
    return loaded;
}
/* The same, if it is wanted; else a part of `epoch`. No branch that the next load would wait behind. */
DEVICE LinePart load_part_if(bool wanted, const char* part, uint32_t epoch) {
    LinePart loaded;
    asm volatile(
        "{\n\t.reg .b128 part;\n\t.reg .pred wanted;\n\t"
        "setp.ne.u32 wanted, %3, 0;\n\t"
        "mov.b128 part, {%4, %4};\n\t"
        "@wanted ld.relaxed.sys.global.b128 part, [%2];\n\t"
        "mov.b128 {%0, %1}, part;\n\t}"
        : "=l"(loaded.low), "=l"(loaded.high)
        : "l"((const GLOBAL(char)*)part), "r"(uint32_t(wanted)), "l"(uint64_t(epoch) << 32)
        : "memory");
    return loaded;
}
DEVICE uint32_t word_of(const LinePart& part, uint32_t i) {
    return uint32_t(i < 2 ? part.low >> i * 32 : part.high);
}
DEVICE uint32_t epoch_of(const LinePart& part) { return uint32_t(part.high >> 32); }

/* Nothing is done to it before: see receive_units() in lines/unit.h. */
DEVICE void loaded_by_now(LinePart& part) { asm volatile("" : "+l"(part.low), "+l"(part.high)); }

/* Words in one register each from here on: values of 16 bits taken out of them would have one each, for as long as they
 * live. */
DEVICE void hold_packed(Pack& pack) {
    asm volatile("" : "+r"(pack[0]), "+r"(pack[1]), "+r"(pack[2]), "+r"(pack[3]));
}

/* Two floats, rounded to nearest even, in one instruction; `low` in the low half. */
#define HAS_PAIR_CONVERSIONS
DEVICE uint32_t halves_of(float low, float high) {
    uint32_t pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}
DEVICE uint16_t float_to_half(float value) { return __builtin_bit_cast(uint16_t, _Float16(value)); }
DEVICE uint32_t bfloats_of(float low, float high) {
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
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
