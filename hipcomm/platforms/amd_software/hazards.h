// Hazards that the hardware leaves to the program: how many wait states have to be between two instructions.
#pragma once

#include <string>

#include "code_object.h"

namespace hipcomm::amd {

// Looks at all paths through the kernel. Empty, or the first place where wait states are missing.
std::string find_hazard(const Kernel& kernel);

}  // namespace hipcomm::amd
