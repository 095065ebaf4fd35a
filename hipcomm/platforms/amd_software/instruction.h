// A decoded instruction, and what is known of an operation.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hipcomm::amd {

struct Wave;
struct Instruction;

using Execute = void (*)(Wave&, const Instruction&);

// How an operand lies in registers, and what an inline constant means there.
enum class Type : uint8_t {
    kNone,
    kB16,
    kB32,
    kB64,
    kF16,
    kF32,
    kF64,
    kMask,
    kB96,
    kB128,
    kB256,
    kB512,
    kB8
};

constexpr unsigned registers_of(Type type) {
    switch (type) {
        case Type::kNone: return 0;
        case Type::kB64:
        case Type::kF64: return 2;
        case Type::kB96: return 3;
        case Type::kB128: return 4;
        case Type::kB256: return 8;
        case Type::kB512: return 16;
        default: return 1;
    }
}

// What the decoder and the checks have to know of an operation besides its operands.
enum Trait : uint16_t {
    kAccumulates = 1,     // the destination is also the last source
    kWritesExec = 2,      // v_cmpx
    kLiteralSecond = 4,   // v_fmamk, v_madmk: the second source is a literal
    kLiteralThird = 8,    // v_fmaak
    kReadsVcc = 16,       // the last source is VCC in every encoding: v_div_fmas
    kTranscendental = 32, // reciprocals and the like: another pipeline, with hazards of its own
    kVector = 64,         // VALU
    kMemory = 128,        // VMEM, FLAT, LDS, SMEM
    kPacked = 256,        // op_sel and op_sel_hi choose halves
    kStore = 512,
    kReadsLane = 1024,    // v_readlane, v_writelane, v_readfirstlane
    kBranch = 2048,
};

constexpr int kMaxSources = 4;

// What an instruction does. The tables are vector.def, scalar.def, packed.def and memory.def.
struct Operation {
    const char* name;
    Execute execute;
    Type result;
    bool carries;  // a mask is the second result
    uint8_t source_count;
    Type sources[kMaxSources];
    uint16_t traits;
    uint8_t bytes;  // of memory, per lane or in all
    uint8_t kind;   // of memory operations: see memory.def
};

enum class Place : uint8_t { kNone, kScalar, kVector, kConstant, kScc };

struct Operand {
    Place place = Place::kNone;
    Type type = Type::kNone;
    uint16_t index = 0;  // of the first register; AGPRs are 256 and up
    bool negate = false;
    bool absolute = false;
    bool sign_extend = false;
    uint8_t part = 6;  // 0 to 3: a byte, 4 and 5: a word, 6: all
    bool is_literal = false;
    uint64_t value = 0;

    bool is_modified() const { return negate || absolute || part != 6; }
};

// The scope of a memory access or of a cache operation.
enum class Scope : uint8_t { kWave, kWorkgroup, kAgent, kSystem };

constexpr uint8_t kNoWait = 255;

struct Instruction {
    const Operation* operation = nullptr;
    Execute execute = nullptr;
    Operand result;
    Operand carry;  // second result
    Operand sources[kMaxSources];
    uint32_t address = 0;  // from the beginning of the code object
    uint8_t bytes = 4;
    const char* name = "";  // as this architecture calls it
    uint8_t format = 0;

    // Vector: what happens to the result.
    bool clamp = false;
    uint8_t multiplier = 0;    // 1: times 2, 2: times 4, 3: divided by 2
    uint8_t result_part = 6;
    uint8_t unused = 0;        // of the register around the part: 0 zero, 1 sign, 2 kept
    bool keeps_rest = false;   // the rest of the register stays as it is
    uint8_t select_low = 0, select_high = 7;  // packed: which half of each source
    uint8_t negate_low = 0, negate_high = 0;

    // Memory.
    int32_t offset = 0;
    int32_t second_offset = 0;
    Scope scope = Scope::kWave;
    bool returns = false;  // of an atomic: the old value
    bool temporal = true;

    // Control.
    uint32_t target = 0;  // position of the instruction that a branch leads to
    uint32_t immediate = 0;
    uint8_t waits[4] = {kNoWait, kNoWait, kNoWait, kNoWait};  // most operations that may stay outstanding

    // The second half of a dual instruction (VOPD), which reads its sources before either writes.
    const Instruction* second = nullptr;

    mutable uint64_t executed = 0;
};

// The operation of this name, or null.
const Operation* find_operation(const char* name);

// The tables, for find_operation.
struct Operations {
    const Operation* first;
    size_t count;
};
Operations vector_operations();
Operations lane_operations();
Operations packed_operations();
Operations scalar_operations();
Operations memory_operations();

}  // namespace hipcomm::amd
