// From the bits of a code object to instructions.
#pragma once

#include <deque>

#include "instruction.h"
#include "target.h"

namespace hipcomm::amd {

enum class Format : uint8_t {
    SOP1, SOP2, SOPC, SOPK, SOPP, VOP1, VOP2, VOPC, VOP3, VOP3P, VOPD, SMEM, DS, FLAT, GLOBAL, SCRATCH, MUBUF,
    kUnknown
};

// Decodes one instruction at `words`, of which `count` are left, and returns how many it has. What is not
// known decodes to an instruction that refuses to run. Second halves of dual instructions go to `extra`.
unsigned decode(const Target& target, const uint32_t* words, unsigned count, Instruction& instruction,
                std::deque<Instruction>& extra);

}  // namespace hipcomm::amd
