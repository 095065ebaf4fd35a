// What launches cost: instructions and memory operations by kernel.
#pragma once

#include <cstdint>

#include "instruction.h"

namespace hipcomm::amd {

struct Access;

struct Counts {
    uint64_t launches = 0;
    uint64_t waves = 0;
    uint64_t instructions = 0;
    uint64_t loads = 0, stores = 0, atomics = 0, cache_operations = 0;  // vector memory, per wave
    uint64_t load_bytes = 0, store_bytes = 0;
    uint64_t remote_bytes = 0, remote_pieces = 0;  // stored in other devices' memory; contiguous pieces
    uint64_t shared_operations = 0;
    uint64_t scalar_words = 0;
    uint64_t sleeps = 0;  // turns spent polling

    void add(const Access& access);
    void add(const Counts& other);
};

// Adds a launch's counts to its kernel's, for hipcommAmdSoftwareCounts.
void record(const char* kernel, const Counts& counts);

}  // namespace hipcomm::amd
