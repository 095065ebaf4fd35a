// ELF shared objects in memory.
#pragma once

#include <cstddef>

#include "hip_abi.h"

namespace hipcomm::cpu {

// Finds out how long an image is, which HIP's interface does not say, and whether this machine can load it.
// hipErrorInvalidImage: not an ELF shared object, or one that ends in unreadable memory.
// hipErrorNoBinaryForGpu: one for another machine, such as an AMD code object.
hipError_t measure_elf_image(const void* image, size_t* bytes);

}  // namespace hipcomm::cpu
