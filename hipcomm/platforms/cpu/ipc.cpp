// Device memory across process borders.
//
// A handle names a memfd by process and descriptor number.  Both numbers are recycled, so the handle also
// carries the file's inode and the allocation's random id, which is part of the memfd's name: what
// /proc/<pid>/fd/<n> opens is accepted only if it is that very file.  Nothing outlives the owner: with its
// process, or with hipFree, the handle opens nothing, while memory that is already open stays mapped.
//
// A handle stands for a whole allocation, whichever of its addresses was exported; hipMemGetAddressRange
// gives the offset.  Opening a handle again gives the same address, to be closed as many times.
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "capture.h"
#include "device.h"
#include "error.h"
#include "limits.h"
#include "memory.h"
#include "regions.h"

namespace hipcomm::cpu {
namespace {

constexpr char kMagic[8] = {'h', 'c', 'p', 'u', 'i', 'p', 'c', '1'};

struct Handle {
    char magic[8];
    int32_t process;
    int32_t file;
    uint64_t id;
    uint64_t inode;
    uint64_t filesystem;
    uint64_t bytes;
    int32_t device;
    uint32_t flags;
};
static_assert(sizeof(Handle) <= sizeof(hipIpcMemHandle_t), "the handle fits into HIP's 64 bytes");

hipError_t export_region(const Region& region, Handle& handle) {
    struct stat status;
    if (fstat(region.file.get(), &status) != 0) return hipErrorOperatingSystem;
    std::memcpy(handle.magic, kMagic, sizeof kMagic);
    handle.process = getpid();
    handle.file = region.file.get();
    handle.id = region.id;
    handle.inode = status.st_ino;
    handle.filesystem = status.st_dev;
    handle.bytes = region.bytes;
    handle.device = region.device;
    handle.flags = region.flags;
    return hipSuccess;
}

// Is this open file the memfd that the handle was made for?
bool is_file_of(const Handle& handle, int file) {
    struct stat status;
    if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) return false;
    if (status.st_ino != handle.inode || status.st_dev != handle.filesystem) return false;
    if (static_cast<uint64_t>(status.st_size) != round_up_to_pages(handle.bytes)) return false;

    char link[32];
    char name[32];
    char expected[64];
    char actual[64];
    std::snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    memory_file_name(handle.id, name, sizeof name);
    const int length = std::snprintf(expected, sizeof expected, "/memfd:%s (deleted)", name);
    return readlink(link, actual, sizeof actual) == length &&
           std::memcmp(actual, expected, static_cast<size_t>(length)) == 0;
}

hipError_t open_file(const Handle& handle, FileDescriptor& file) {
    char path[48];
    std::snprintf(path, sizeof path, "/proc/%d/fd/%d", handle.process, handle.file);
    file = open_descriptor([&] { return open(path, O_RDWR | O_CLOEXEC); });
    if (!file) {
        switch (errno) {
            // The owner exists and is out of reach: another user's, not dumpable, or /proc is restricted.
            case EACCES:
            case EPERM: return hipErrorOperatingSystem;
            case EMFILE:
            case ENFILE:
            case ENOMEM: return out_of_memory(errno, handle.bytes);
            default: return hipErrorInvalidHandle;
        }
    }
    return is_file_of(handle, file.get()) ? hipSuccess : hipErrorInvalidHandle;
}

// Counts one more opening of memory that this process has mapped already.
Regions::Pointer reopen(const Handle& handle) {
    return Regions::instance().find_if([&](Region& candidate) {
        if (candidate.kind != RegionKind::kImported || candidate.id != handle.id) return false;
        ++candidate.open_count;
        return true;
    });
}

bool is_own(const Handle& handle) {
    if (handle.process != getpid()) return false;
    const auto own = Regions::instance().find_if([&](const Region& candidate) {
        return candidate.kind == RegionKind::kDevice && candidate.id == handle.id;
    });
    return own != nullptr;
}

hipError_t import(const Handle& handle, void** pointer) {
    if (is_own(handle)) return hipErrorInvalidContext;
    // Also for memory that is mapped already: the handle has to be alive.
    FileDescriptor file;
    const hipError_t result = open_file(handle, file);
    if (result != hipSuccess) return result;
    if (const auto known = reopen(handle)) {
        *pointer = known->pointer();
        return hipSuccess;
    }
    auto region = std::make_shared<Region>();
    region->mapping = map_memory_file(file.get(), round_up_to_pages(handle.bytes));
    void* const address = region->mapping.get();
    if (address == nullptr) return out_of_memory(errno, handle.bytes);
    region->kind = RegionKind::kImported;
    region->base = reinterpret_cast<uintptr_t>(address);
    region->bytes = handle.bytes;
    region->device = current_device();
    region->flags = handle.flags;
    region->id = handle.id;
    if (!Regions::instance().insert(std::move(region))) return hipErrorMapFailed;
    *pointer = address;
    return hipSuccess;
}

}  // namespace
}  // namespace hipcomm::cpu

using namespace hipcomm::cpu;

hipError_t hipIpcGetMemHandle(hipIpcMemHandle_t* handle, void* pointer) {
    return api([&] {
        if (handle == nullptr || pointer == nullptr) return hipErrorInvalidValue;
        const auto region = Regions::instance().find(pointer);
        if (region == nullptr || region->kind != RegionKind::kDevice) return hipErrorInvalidValue;
        Handle content = {};
        const hipError_t result = export_region(*region, content);
        if (result != hipSuccess) return result;
        *handle = {};
        std::memcpy(handle, &content, sizeof content);
        return hipSuccess;
    });
}

hipError_t hipIpcOpenMemHandle(void** pointer, hipIpcMemHandle_t handle, unsigned int flags) {
    return api([&] {
        if (pointer == nullptr || (flags & ~hipIpcMemLazyEnablePeerAccess) != 0) return hipErrorInvalidValue;
        *pointer = nullptr;
        const hipError_t permitted = check_unsafe_call();
        if (permitted != hipSuccess) return permitted;
        Handle content;
        std::memcpy(&content, &handle, sizeof content);
        if (std::memcmp(content.magic, kMagic, sizeof kMagic) != 0) return hipErrorInvalidHandle;
        return import(content, pointer);
    });
}

hipError_t hipIpcCloseMemHandle(void* pointer) {
    return api([&] {
        if (pointer == nullptr) return hipErrorInvalidValue;
        bool known = false;
        // Unmapped with its last reference, outside the table's lock.
        const auto closed = Regions::instance().remove(pointer, [&](Region& candidate) {
            known = candidate.kind == RegionKind::kImported;
            return known && --candidate.open_count == 0;
        });
        return known ? hipSuccess : hipErrorInvalidValue;
    });
}

