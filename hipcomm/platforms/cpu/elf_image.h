// ELF shared objects in memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_functions.h"

namespace hipcomm::cpu {

// The length of an image that HIP's interface does not say.
constexpr size_t kUnknownLength = SIZE_MAX;

// Finds out how long an image is, at most `available`, and whether this machine can load it.
// hipErrorInvalidImage: not an ELF shared object, or one that was cut short or ends in unreadable memory.
// hipErrorNoBinaryForGpu: one for another machine, such as an AMD code object.
hipError_t measure_elf_image(const void* image, size_t available, size_t* bytes);

}  // namespace hipcomm::cpu
