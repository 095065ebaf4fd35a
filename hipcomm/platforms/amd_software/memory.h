// Memory instructions: what they access, and when it counts as done.
#pragma once

#include "numbers.h"
#include "wave.h"

namespace hipcomm::amd {

enum AccessKind : u8 { kPlain, kSigned, kLow, kHigh, kSignedLow, kSignedHigh, kMessage, kBackward, kForward };
enum AtomicKind : u8 { kSwap, kCompareSwap, kAdd, kSubtract, kAnd, kOr, kXor, kMinimum, kMaximum };
enum CacheKind : u8 {
    kWriteBack,
    kInvalidate,
    kInvalidateL2,
    kInvalidateL1,
    kWriteBackInvalidate,
    kInvalidateScalars
};

// A flat address of this high half is one of LDS, of the second one of scratch memory, which there is none
// of.
constexpr u32 kSharedAperture = 0x00010000;
constexpr u32 kScratchAperture = 0x00020000;

enum class Action : u8 { kLoad, kStore, kAtomic, kCache };

// A vector memory operation between its issue and its end: the lanes for which it has not happened yet.
struct Access {
    const Instruction* instruction;
    Action action;
    bool is_shared;  // LDS
    u8 bytes;
    u64 lanes;
    u32 age;         // turns of the wave since it was issued
    u32 hold;        // turns until it happens, unless something waits for it
    bool is_single;  // one lane: a signal, perhaps
    bool upper_first;  // of an access of more than 8 bytes: which piece of it happens first
    u64 begun;       // lanes of which one piece has happened
    u64 begin, end;  // of all lanes' addresses, of memory
    u64 addresses[kMaxLanes];
    u32 data[4][kMaxLanes];
};

// The kind of a load or store; instructions with two places have a unit there instead.
inline u8 instruction_kind(const Instruction& instruction) {
    return instruction.operation->traits & kPacked ? u8(kPlain) : instruction.operation->kind;
}

// Takes back what a wait instruction, the end of the wave, or a full counter waits for.
void wait_for_counters(Wave& wave, const Instruction& instruction);
void wait_for_all(Wave& wave);

// Makes an access happen for one lane: a load writes its register, a store memory or a cache. With weak
// memory, what has more than 8 bytes happens in two pieces, one a call: after the first the lane stays among
// those for which it has not happened.
void perform(Wave& wave, Access& access, unsigned lane);

// The constant-rate clock: 100 MHz.
u64 clock_ticks();

}  // namespace hipcomm::amd
