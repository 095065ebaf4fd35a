// Hazards, looked for once per kernel along all paths that lead to an instruction.
#include "hazards.h"

#include <cstdio>
#include <cstring>
#include <vector>

#include "decoder.h"
#include "wave.h"

namespace hipcomm::amd {
namespace {

enum Producer { kTranscendentalWriter, kPartWriter, kVectorWriter, kWideStore };
enum Resource { kVectorRegister, kScalarRegister, kExecMask, kVccMask };
enum Consumer {
    kVectorReader,
    kOtherVectorReader,
    kLaneReader,
    kLaneSelector,
    kMemoryReader,
    kDivisionReader,
    kVectorOverwriter
};

constexpr uint16_t kCdna3 = kGfx942 | kGfx950;
constexpr uint16_t kCdna = kGfx90a | kCdna3;

struct Hazard {
    uint16_t targets;
    Producer producer;
    Resource resource;
    Consumer consumer;
    unsigned states;
};

#define HAZARD(targets, producer, resource, consumer, states) {targets, producer, resource, consumer, states},
constexpr Hazard kHazards[] = {
#include "hazards.def"
};
constexpr unsigned kMostStates = 5;

bool has(const Instruction& instruction, Trait trait) { return (instruction.operation->traits & trait) != 0; }
bool is_vector(const Instruction& instruction) { return has(instruction, kVector); }
bool is_vector_memory(const Instruction& instruction) {
    return has(instruction, kMemory) &&
           (instruction.format == uint8_t(Format::FLAT) || instruction.format == uint8_t(Format::GLOBAL));
}

unsigned registers_of(const Operand& operand) {
    return operand.type == Type::kMask ? 2 : amd::registers_of(operand.type);
}

bool touches(const Operand& a, const Operand& b) {
    if (a.place != b.place || (a.place != Place::kVector && a.place != Place::kScalar)) return false;
    return a.index < b.index + registers_of(b) && b.index < a.index + registers_of(a);
}

bool produces(Producer producer, const Instruction& instruction) {
    switch (producer) {
        case kTranscendentalWriter: return has(instruction, kTranscendental);
        case kPartWriter: return is_vector(instruction) && instruction.result_part != 6;
        case kVectorWriter: return is_vector(instruction);
        case kWideStore:
            return is_vector_memory(instruction) && has(instruction, kStore) &&
                   instruction.operation->bytes > 8;
    }
    return false;
}

bool consumes(Consumer consumer, const Instruction& instruction) {
    const char* const name = instruction.operation->name;
    switch (consumer) {
        case kVectorReader:
        case kVectorOverwriter: return is_vector(instruction);
        case kOtherVectorReader: return is_vector(instruction) && !has(instruction, kTranscendental);
        case kLaneReader: return has(instruction, kReadsLane);
        case kLaneSelector: return has(instruction, kReadsLane) && instruction.operation->source_count == 2;
        case kMemoryReader: return is_vector_memory(instruction);
        case kDivisionReader: return std::strncmp(name, "v_div_fmas", 10) == 0;
    }
    return false;
}

// Whether the later instruction uses what the earlier one has written, or stores.
bool collide(const Hazard& hazard, const Instruction& earlier, const Instruction& later) {
    const auto reads = [&](const Operand& written) {
        const unsigned first = hazard.consumer == kLaneSelector ? 1 : 0;
        const unsigned last = hazard.consumer == kMemoryReader ? 3 : later.operation->source_count;
        for (unsigned index = first; index < last; ++index)
            if (touches(written, later.sources[index])) return true;
        return false;
    };
    switch (hazard.resource) {
        case kExecMask: return has(earlier, kWritesExec);
        case kVccMask: {
            Operand vcc;
            vcc.place = Place::kScalar;
            vcc.index = kVcc;
            vcc.type = Type::kMask;
            return touches(earlier.result, vcc) || touches(earlier.carry, vcc);
        }
        case kScalarRegister:
            return (earlier.result.place == Place::kScalar && reads(earlier.result)) ||
                   (earlier.carry.place == Place::kScalar && reads(earlier.carry));
        case kVectorRegister:
            if (hazard.producer == kWideStore) return touches(earlier.sources[1], later.result);
            return earlier.result.place == Place::kVector && reads(earlier.result);
    }
    return false;
}

class Search {
public:
    explicit Search(const Kernel& kernel) : kernel_(kernel), predecessors_(kernel.instructions.size()) {
        const auto& code = kernel.instructions;
        for (size_t position = 0; position < code.size(); ++position) {
            const Instruction& instruction = code[position];
            const char* const name = instruction.operation->name;
            const bool falls_through =
                std::strcmp(name, "s_branch") != 0 && std::strcmp(name, "s_endpgm") != 0;
            if (falls_through && position + 1 < code.size())
                predecessors_[position + 1].push_back(uint32_t(position));
            if (has(instruction, kBranch)) predecessors_[instruction.target].push_back(uint32_t(position));
        }
    }

    std::string run() {
        for (size_t position = 0; position < kernel_.instructions.size(); ++position) {
            const Instruction& later = kernel_.instructions[position];
            if (!is_vector(later) && !is_vector_memory(later)) continue;
            const std::string found = look_back(uint32_t(position), later, 0);
            if (!found.empty()) return found;
        }
        return {};
    }

private:
    // `states` have passed between the instruction behind this position and `later`.
    std::string look_back(uint32_t position, const Instruction& later, unsigned states) {
        for (const uint32_t before : predecessors_[position]) {
            const Instruction& earlier = kernel_.instructions[before];
            for (const Hazard& hazard : kHazards) {
                if ((hazard.targets & kernel_.target->bit) == 0 || states >= hazard.states) continue;
                if (produces(hazard.producer, earlier) && consumes(hazard.consumer, later) &&
                    collide(hazard, earlier, later)) {
                    char text[256];
                    std::snprintf(text, sizeof text,
                                  "%s at +%#x needs %u wait states after %s at +%#x, and there are %u",
                                  later.name, later.address - kernel_.instructions[kernel_.first].address,
                                  hazard.states, earlier.name,
                                  earlier.address - kernel_.instructions[kernel_.first].address, states);
                    return text;
                }
            }
            const bool is_nop = std::strcmp(earlier.operation->name, "s_nop") == 0;
            const unsigned passed = states + (is_nop ? (earlier.immediate & 15) + 1 : 1);
            if (passed >= kMostStates) continue;
            const std::string found = look_back(before, later, passed);
            if (!found.empty()) return found;
        }
        return {};
    }

    const Kernel& kernel_;
    std::vector<std::vector<uint32_t>> predecessors_;
};

}  // namespace

std::string find_hazard(const Kernel& kernel) {
    return kernel.target->family == Family::kGfx9 ? Search(kernel).run() : std::string();
}

}  // namespace hipcomm::amd
