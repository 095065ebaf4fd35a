// Which bits of the registers mean something, as in Valgrind's memcheck.
//
// The compiler moves, shifts and masks registers of which nothing has written some bits. So arithmetic may
// read them: those bits of the result that depend on them are undefined too. What decides something is
// refused if it depends on an undefined bit: addresses, data of stores, branches, EXEC, the choice of a lane.
#pragma once

#include "wave.h"

namespace hipcomm::amd {

// Finds by experiment which bits of the results depend on undefined bits of the sources.
void execute_with_undefined_sources(Wave& wave, const Instruction& instruction);

inline bool has_undefined_register(const Wave& wave, const Operand& operand, uint64_t lanes) {
    if (operand.place == Place::kVector) {
        for (unsigned index = operand.index; index < operand.index + registers_of(operand.type); ++index)
            if (index >= wave.vector_count || (lanes & ~wave.readable[index]) != 0) return true;
    } else if (operand.place == Place::kScalar) {
        for (unsigned index = operand.index; index < operand.index + scalars_of(wave, operand); ++index)
            if (!wave.is_readable(index)) return true;
    }
    return false;
}

inline bool has_undefined_source(const Wave& wave, const Instruction& instruction) {
    const uint64_t lanes = instruction.operation->traits & kReadsLane ? wave.all_lanes() : wave.exec();
    for (unsigned index = 0; index < instruction.operation->source_count; ++index)
        if (has_undefined_register(wave, instruction.sources[index], lanes)) return true;
    return instruction.keeps_rest && has_undefined_register(wave, instruction.result, lanes);
}

inline void execute(Wave& wave, const Instruction& instruction) {
    const bool is_checked_itself = (instruction.operation->traits & kMemory) != 0;
    if (__builtin_expect(!is_checked_itself && has_undefined_source(wave, instruction), 0))
        execute_with_undefined_sources(wave, instruction);
    else
        instruction.execute(wave, instruction);
}

}  // namespace hipcomm::amd
