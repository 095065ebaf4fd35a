// The state of a wave and of its block.
#pragma once

#include <cstdint>
#include <array>
#include <map>
#include <memory>
#include <vector>

#include "fault.h"
#include "instruction.h"
#include "target.h"

namespace hipcomm::amd {

constexpr unsigned kMaxLanes = 64;
constexpr unsigned kScalarRegisters = 128;
constexpr unsigned kVcc = 106;
constexpr unsigned kExec = 126;

[[noreturn]] void refuse_vector_write(unsigned index);
[[noreturn]] void refuse_scalar_write(unsigned index);

struct Block;
struct Kernel;
class Launch;
struct Access;

// A memory operation that a wait counter counts.
struct Outstanding {
    const Instruction* instruction;
    uint8_t counters;      // bits: which ones count it
    bool is_scalar;        // a scalar load, which returns in any order
    uint16_t first;        // the registers that it will write
    uint8_t count;         // 0: none
    uint64_t lanes;        // of these registers
    Access* access;        // what of it has not happened yet; null: all has
};

enum class Flow : uint8_t { kNext, kSleep, kStall, kBarrier, kEnd };

struct Wave {
    Launch* launch = nullptr;
    Block* block = nullptr;
    const Target* target = nullptr;
    uint32_t program_counter = 0;  // position of the next instruction
    Flow flow = Flow::kNext;
    bool is_done = false;
    bool is_waiting = false;  // at a barrier
    bool scc = false;
    bool is_scc_written = false;
    uint32_t number = 0;  // within the launch

    uint32_t scalars[kScalarRegisters + 2];
    uint64_t readable_scalars[2] = {};
    uint32_t undefined_scalars[kScalarRegisters + 2];  // bits of those that are not readable
    uint64_t pending_scalars[2] = {};  // outstanding scalar loads write them

    uint32_t vector_count = 0;
    uint32_t (*vectors)[kMaxLanes] = nullptr;
    std::vector<uint64_t> readable;  // of each vector register: the lanes of which all bits are defined
    std::vector<uint64_t> partial;  // of the others, those of which undefined_vectors says which bits are not
    std::map<unsigned, std::array<uint32_t, kMaxLanes>> undefined_vectors;
    std::vector<uint8_t> pending;    // of each vector register: how many outstanding loads write it
    std::vector<uint64_t> arrived;   // lanes that loads have written, readable once none is outstanding

    std::vector<Outstanding> outstanding;  // oldest first

    uint64_t exec() const {
        return target->lanes == 64 ? scalars[kExec] | uint64_t(scalars[kExec + 1]) << 32 : scalars[kExec];
    }
    uint64_t vcc() const { return read_mask(kVcc); }
    uint64_t read_mask(unsigned index) const {
        return target->lanes == 64 ? scalars[index] | uint64_t(scalars[index + 1]) << 32 : scalars[index];
    }
    uint64_t all_lanes() const { return target->lanes == 64 ? ~0ull : 0xffffffffull; }

    bool is_readable(unsigned scalar) const { return readable_scalars[scalar / 64] >> scalar % 64 & 1; }
    bool is_pending(unsigned scalar) const { return pending_scalars[scalar / 64] >> scalar % 64 & 1; }
    void set_scalar(unsigned index, uint32_t value) {
        if (__builtin_expect(is_pending(index), 0)) refuse_scalar_write(index);
        scalars[index] = value;
        readable_scalars[index / 64] |= 1ull << index % 64;
    }
    void set_mask(unsigned index, uint64_t mask) {
        set_scalar(index, uint32_t(mask));
        if (target->lanes == 64) set_scalar(index + 1, uint32_t(mask >> 32));
    }
    void set_exec(uint64_t mask) { set_mask(kExec, mask); }
};

// A block: its waves and its LDS.
struct Block {
    uint32_t index = 0;
    std::vector<Wave*> waves;
    std::vector<uint8_t> shared;
};

// Registers of a scalar operand.
inline unsigned scalars_of(const Wave& wave, const Operand& operand) {
    return operand.type == Type::kMask ? wave.target->lanes / 32u : registers_of(operand.type);
}

// The bits of a lane that nothing defines.
uint32_t undefined_bits(const Wave& wave, unsigned index, unsigned lane);
void set_undefined_bits(Wave& wave, unsigned index, unsigned lane, uint32_t bits);

// Reading registers for what decides something, with the checks: these bits defined, and loads waited for.
// (What arithmetic may read: definedness.h.)
uint32_t read_scalar(const Wave& wave, unsigned index);
void check_vector_bits(const Wave& wave, unsigned index, uint64_t lanes, uint32_t bits);
[[noreturn]] void refuse_vector_read(const Wave& wave, unsigned index, uint64_t lanes);

inline void check_vector_read(const Wave& wave, unsigned index, uint64_t lanes, uint32_t bits = ~0u) {
    if (__builtin_expect(index >= wave.vector_count || (lanes & ~wave.readable[index]) != 0, 0))
        check_vector_bits(wave, index, lanes, bits);
}
inline void check_vector_write(const Wave& wave, unsigned index) {
    if (__builtin_expect(index >= wave.vector_count || wave.pending[index] != 0, 0))
        refuse_vector_write(index);
}

// The scalar operand's value, for arithmetic; for vector operands of scalar instructions there is none.
uint64_t peek_operand(const Wave& wave, const Operand& operand);

// The same for what decides something.
uint64_t read_operand(const Wave& wave, const Operand& operand);

void write_operand(Wave& wave, const Operand& operand, uint64_t value);

}  // namespace hipcomm::amd
