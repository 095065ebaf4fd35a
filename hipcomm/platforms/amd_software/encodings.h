// The encodings of all architectures: format and opcode to operation.
#pragma once

#include "decoder.h"

namespace hipcomm::amd {

struct Encoding {
    const char* name;  // as the architecture calls it
    const Operation* operation;
};

// Null: no such instruction on this target, or none that is known.
const Encoding* find_encoding(const Target& target, Format format, unsigned opcode);

}  // namespace hipcomm::amd
