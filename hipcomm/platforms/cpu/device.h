// The devices: how many, which one is current, how they are told apart.
#pragma once

#include "hip_functions.h"

namespace hipcomm::cpu {

constexpr int kMaxDevices = 254;  // PCI bus numbers 1 to 254

// How many there are: HIPCOMM_CPU_DEVICES.
int device_count() noexcept;

inline bool is_device(int device) noexcept { return device >= 0 && device < device_count(); }

// The current device of the calling thread.
int current_device() noexcept;

// Bytes of memory that one device offers: the machine's.
size_t device_memory_bytes() noexcept;

// What the devices are, for people: their name without its number. Each platform that is built from these files
// has a definition of its own, and one of what a device says about itself.
const char* device_kind() noexcept;
hipError_t describe_device(hipDeviceProp_tR0600& properties, int device);

// Clears the properties and fills in name, UUID and PCI numbers.
hipError_t identify_device(hipDeviceProp_tR0600& properties, int device);

}  // namespace hipcomm::cpu
