// The files behind device memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "file_descriptor.h"

namespace hipcomm::cpu {

// The memfd's name, which carries the allocation's random id into /proc.
void memory_file_name(uint64_t id, char* name, size_t length);

// Maps a memfd of whole pages, shared, and one page more: the file ends before it, so that a kernel that runs
// over the end is stopped by a signal instead of writing into a neighbour.  Null where the system refuses.
Mapping map_memory_file(int file, size_t bytes);

}  // namespace hipcomm::cpu
