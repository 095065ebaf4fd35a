// ELF shared objects in memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hip_functions.h"

namespace hipcomm::cpu {

// The length of an image that HIP's interface does not say.
constexpr size_t kUnknownLength = SIZE_MAX;

// Finds out how long an image is, at most `available`, and whether it is for `machine`, ELF's number of it.
// hipErrorInvalidImage: not an ELF shared object, or one that was cut short or ends in unreadable memory.
// hipErrorNoBinaryForGpu: one for another machine.
hipError_t measure_elf_image(const void* image, size_t available, uint16_t machine, size_t* bytes);

}  // namespace hipcomm::cpu
