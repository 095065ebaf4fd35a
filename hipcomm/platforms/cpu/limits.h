// What the process's limits (ulimit) and the system refuse.
#pragma once

#include <cerrno>
#include <string>

#include "file_descriptor.h"
#include "hip_functions.h"

namespace hipcomm::cpu {

// The customary soft limit of 1024 descriptors exists for programs that use select() and is meant to be raised by those
// that do not; an allocation takes one.  False: it cannot be raised.
bool raise_descriptor_limit();

// What open() makes; again after the limit has been raised, where that was in the way.
template <class Open>
FileDescriptor open_descriptor(Open open) {
    FileDescriptor file(open());
    if (!file && errno == EMFILE && raise_descriptor_limit()) file = FileDescriptor(open());
    return file;
}

// ", and the limit (ulimit -n) is ...", if there is one.
std::string descriptor_limit();

// hipErrorOutOfMemory, with words that name the limit which a system call's errno is about, where `bytes` were wanted.
hipError_t out_of_memory(int error, size_t bytes);

}  // namespace hipcomm::cpu
