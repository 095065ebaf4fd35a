// The architectures that are interpreted, and how they differ.
#pragma once

#include <cstdint>

namespace hipcomm::amd {

enum class Family : uint8_t { kGfx9, kGfx12 };

// Counters of outstanding memory operations. gfx9 has two: vmcnt (loads and stores) and lgkmcnt (LDS and
// scalar).
enum Counter : uint8_t { kLoads, kShared, kScalars, kStores, kCounters };

// What a memory access may find in a cache, or leave there: the model is in caches.h.
struct MemoryRules {
    bool has_scope_bits;           // loads and stores name their scope: gfx942 and later
    bool probes_local_memory;      // a peer's write invalidates the owner's line in the L2
    bool forwards_system_scope;    // system scope goes past the L2: gfx12
};

constexpr uint16_t kNoRegister = 0xffff;

struct Target {
    const char* name;
    uint32_t machine;  // EF_AMDGPU_MACH of the ELF header's flags
    Family family;
    uint16_t bit;      // of the encodings' target masks
    uint8_t lanes;     // of a wave
    uint16_t vectors;  // 32-bit vector registers that a wave can name, AGPRs included
    uint8_t vector_granule;
    uint8_t m0;        // its number as a scalar operand
    uint16_t null;     // likewise; kNoRegister where there is none
    uint32_t shared_bytes;
    int major, minor, stepping;
    uint8_t counter[kCounters];  // which of the hardware's counters counts what
    MemoryRules memory;
};

constexpr uint16_t kGfx90a = 1, kGfx942 = 2, kGfx950 = 4, kGfx1201 = 8, kGfx1250 = 16;

// Null: not interpreted.
const Target* find_target(uint32_t machine);
const Target* find_target(const char* name);

// The names of all targets, for messages.
const char* target_names();

}  // namespace hipcomm::amd
