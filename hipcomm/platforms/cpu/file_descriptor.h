// Owners of file descriptors and memory mappings.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <utility>

namespace hipcomm::cpu {

class FileDescriptor {
public:
    FileDescriptor() = default;
    explicit FileDescriptor(int number) : number_(number) {}
    FileDescriptor(FileDescriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    FileDescriptor& operator=(FileDescriptor&& other) noexcept {
        std::swap(number_, other.number_);
        return *this;
    }
    ~FileDescriptor() {
        // Linux frees the number even when close() reports an error: nothing is left to be done about one.
        if (number_ >= 0) close(number_);
    }

    int get() const { return number_; }
    explicit operator bool() const { return number_ >= 0; }

    // Gives the descriptor up without closing it.
    int release() { return std::exchange(number_, -1); }

private:
    int number_ = -1;
};

class Mapping {
public:
    Mapping() = default;
    Mapping(void* address, size_t bytes) : address_(address), bytes_(bytes) {}
    Mapping(Mapping&& other) noexcept
        : address_(std::exchange(other.address_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
    Mapping& operator=(Mapping&& other) noexcept {
        std::swap(address_, other.address_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    ~Mapping() {
        // Unmapping a whole mapping fails only where the kernel is out of memory; it then stays mapped.
        if (address_ != nullptr) munmap(address_, bytes_);
    }

    void* get() const { return address_; }
    size_t bytes() const { return bytes_; }

private:
    void* address_ = nullptr;
    size_t bytes_ = 0;
};

// Whole pages that hold `bytes`; 0 where that overflows.
inline size_t round_up_to_pages(size_t bytes) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    return bytes > SIZE_MAX - (page - 1) ? 0 : (bytes + page - 1) / page * page;
}

}  // namespace hipcomm::cpu
