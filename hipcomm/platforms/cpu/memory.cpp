// Device memory: allocation, release, and what can be asked about an address.
//
// Every allocation is a memfd of its own, mapped shared.  Its pages come into being when they are touched,
// and another process can map it through /proc/<pid>/fd, for as long as this process lives (see ipc.cpp).
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <string>

#include "capture.h"
#include "device.h"
#include "error.h"
#include "limits.h"
#include "memory.h"
#include "regions.h"

namespace hipcomm::cpu {
namespace {

FileDescriptor create_memory_file(uint64_t id) {
    char name[32];
    memory_file_name(id, name, sizeof name);
    return open_descriptor([&] { return memfd_create(name, MFD_CLOEXEC); });
}

hipError_t allocate(void** pointer, size_t bytes, unsigned flags) {
    if (pointer == nullptr) return hipErrorInvalidValue;
    *pointer = nullptr;
    const hipError_t permitted = check_unsafe_call();
    if (permitted != hipSuccess) return permitted;
    if (device_count() == 0) return hipErrorNoDevice;
    if (bytes == 0) return hipSuccess;

    const int device = current_device();
    const size_t used = Regions::instance().bytes_on(device);
    const size_t total = device_memory_bytes();
    const size_t mapped = round_up_to_pages(bytes);
    if (mapped == 0 || used > total || mapped > total - used) {
        explain(hipErrorOutOfMemory, std::to_string(bytes) + " bytes, where " + std::to_string(used) + " of " +
                                         std::to_string(total) + " are in use");
        return hipErrorOutOfMemory;
    }

    auto region = std::make_shared<Region>();
    if (getrandom(&region->id, sizeof region->id, 0) != sizeof region->id) return hipErrorOperatingSystem;
    region->file = create_memory_file(region->id);
    if (!region->file || ftruncate(region->file.get(), static_cast<off_t>(mapped)) != 0)
        return out_of_memory(errno, bytes);
    region->mapping = map_memory_file(region->file.get(), mapped);
    void* const address = region->mapping.get();
    if (address == nullptr) return out_of_memory(errno, bytes);
    region->kind = RegionKind::kDevice;
    region->base = reinterpret_cast<uintptr_t>(address);
    region->bytes = bytes;
    region->device = device;
    region->flags = flags;
    if (!Regions::instance().insert(std::move(region))) return hipErrorUnknown;
    *pointer = address;
    return hipSuccess;
}

hipError_t release(void* pointer) {
    const hipError_t permitted = check_unsafe_call();
    if (permitted != hipSuccess) return permitted;
    if (pointer == nullptr) return hipSuccess;
    const auto region = Regions::instance().remove(
        pointer, [](const Region& candidate) { return candidate.kind == RegionKind::kDevice; });
    return region != nullptr ? hipSuccess : hipErrorInvalidValue;
}

hipMemoryType type_of(const Region& region) {
    return region.is_host() ? hipMemoryTypeHost : hipMemoryTypeDevice;
}

}  // namespace

void memory_file_name(uint64_t id, char* name, size_t length) {
    std::snprintf(name, length, "hipcomm-%016" PRIx64, id);
}

Mapping map_memory_file(int file, size_t bytes) {
    const size_t guarded = bytes + round_up_to_pages(1);
    void* address = mmap(nullptr, guarded, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
    return address == MAP_FAILED ? Mapping() : Mapping(address, guarded);
}

}  // namespace hipcomm::cpu

using namespace hipcomm::cpu;

hipError_t hipMalloc(void** pointer, size_t bytes) {
    return api([&] { return allocate(pointer, bytes, hipDeviceMallocDefault); });
}

hipError_t hipExtMallocWithFlags(void** pointer, size_t bytes, unsigned int flags) {
    return api([&] {
        switch (flags) {
            case hipDeviceMallocDefault:
            case hipDeviceMallocFinegrained:
            case hipDeviceMallocUncached:
            case hipDeviceMallocContiguous: return allocate(pointer, bytes, flags);
            // One 8-byte signal, as on AMD GPUs.
            case hipMallocSignalMemory:
                return bytes == 8 ? allocate(pointer, bytes, flags) : hipErrorInvalidValue;
            default: return hipErrorInvalidValue;
        }
    });
}

hipError_t hipMallocAsync(void** pointer, size_t bytes, hipStream_t stream) {
    return api([&] {
        // Allocation nodes are not supported in graphs.
        const hipError_t permitted = check_stream_use(stream);
        return permitted == hipSuccess ? allocate(pointer, bytes, hipDeviceMallocDefault) : permitted;
    });
}

hipError_t hipFree(void* pointer) {
    return api([&] { return release(pointer); });
}

hipError_t hipFreeAsync(void* pointer, hipStream_t stream) {
    return api([&] {
        if (pointer == nullptr) return hipErrorInvalidValue;
        // Allocation nodes are not supported in graphs.
        const hipError_t permitted = check_stream_use(stream);
        return permitted == hipSuccess ? release(pointer) : permitted;
    });
}

hipError_t hipMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
    return api([&] {
        if (free_bytes == nullptr || total_bytes == nullptr) return hipErrorInvalidValue;
        const size_t used = Regions::instance().bytes_on(current_device());
        *total_bytes = device_memory_bytes();
        *free_bytes = *total_bytes - std::min(used, *total_bytes);
        return hipSuccess;
    });
}

hipError_t hipMemGetAddressRange(hipDeviceptr_t* base, size_t* bytes, hipDeviceptr_t pointer) {
    return api([&] {
        if (base == nullptr || bytes == nullptr || pointer == nullptr) return hipErrorInvalidValue;
        const auto region = Regions::instance().find(pointer);
        if (region == nullptr) return hipErrorNotFound;
        *base = region->pointer();
        *bytes = region->bytes;
        return hipSuccess;
    });
}

hipError_t hipPointerGetAttributes(hipPointerAttribute_t* attributes, const void* pointer) {
    return api([&] {
        if (attributes == nullptr || pointer == nullptr) return hipErrorInvalidValue;
        *attributes = {};
        void* address = const_cast<void*>(pointer);
        const auto region = Regions::instance().find(pointer);
        if (region == nullptr) {
            constexpr int kNoDevice = -2;  // hipInvalidDeviceId
            attributes->type = hipMemoryTypeUnregistered;
            attributes->device = kNoDevice;
            attributes->hostPointer = address;
            return hipSuccess;
        }
        attributes->type = type_of(*region);
        attributes->device = region->device;
        attributes->devicePointer = address;
        attributes->hostPointer = region->is_host() ? address : nullptr;
        attributes->allocationFlags = region->flags;
        return hipSuccess;
    });
}

