// The files behind device memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hipcomm::cpu {

// The memfd's name, which carries the allocation's random id into /proc.
void memory_file_name(uint64_t id, char* name, size_t length);

// Maps a memfd whole and shared; null where the system refuses.
void* map_memory_file(int file, size_t bytes);

}  // namespace hipcomm::cpu
