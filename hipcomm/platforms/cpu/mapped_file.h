// Files that are mapped whole: code objects.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>

#include "limits.h"

namespace hipcomm::cpu {

// What use(address, bytes) returns, with the file mapped for reading while it runs; or what is wrong with the file.
template <class Use>
hipError_t with_mapped_file(const char* path, Use&& use) {
    const FileDescriptor file = open_descriptor([&] { return open(path, O_RDONLY | O_CLOEXEC); });
    if (!file) return errno == ENOENT ? hipErrorFileNotFound : hipErrorOperatingSystem;
    struct stat status;
    if (fstat(file.get(), &status) != 0) return hipErrorOperatingSystem;
    if (!S_ISREG(status.st_mode) || status.st_size == 0) return hipErrorInvalidImage;
    const size_t bytes = static_cast<size_t>(status.st_size);
    void* const address = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (address == MAP_FAILED) return hipErrorOutOfMemory;
    const Mapping mapping(address, bytes);
    return use(mapping.get(), bytes);
}

}  // namespace hipcomm::cpu
