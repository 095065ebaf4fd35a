// Host memory that devices reach under the same address: pinned by us, or the program's own, registered.
#include "capture.h"
#include "device.h"
#include "error.h"
#include "host_access.h"
#include "regions.h"

namespace hipcomm::cpu {
namespace {

constexpr unsigned kMallocFlags = hipHostMallocPortable | hipHostMallocMapped | hipHostMallocWriteCombined |
                                  hipHostMallocUncached | hipHostMallocNumaUser | hipHostMallocCoherent |
                                  hipHostMallocNonCoherent;
constexpr unsigned kRegisterFlags =
    hipHostRegisterPortable | hipHostRegisterMapped | hipHostRegisterIoMemory | hipHostRegisterReadOnly;

hipError_t allocate(void** pointer, size_t bytes, unsigned flags) {
    if (pointer == nullptr) return hipErrorInvalidValue;
    *pointer = nullptr;
    const unsigned coherence = flags & (hipHostMallocCoherent | hipHostMallocNonCoherent);
    const bool contradictory = coherence == (hipHostMallocCoherent | hipHostMallocNonCoherent);
    if ((flags & ~kMallocFlags) != 0 || contradictory) return hipErrorInvalidValue;
    const hipError_t permitted = check_unsafe_call();
    if (permitted != hipSuccess) return permitted;
    if (device_count() == 0) return hipErrorNoDevice;
    if (bytes == 0) return hipSuccess;

    const size_t mapped = round_up_to_pages(bytes);
    if (mapped == 0 || mapped > device_memory_bytes()) return hipErrorOutOfMemory;
    void* address = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) return hipErrorOutOfMemory;
    Mapping mapping(address, mapped);

    auto region = std::make_shared<Region>();
    region->kind = RegionKind::kHostPinned;
    region->base = reinterpret_cast<uintptr_t>(address);
    region->bytes = bytes;
    region->device = current_device();
    region->flags = flags;
    region->mapping = std::move(mapping);
    if (!Regions::instance().insert(std::move(region))) return hipErrorUnknown;
    *pointer = address;
    return hipSuccess;
}

hipError_t release(void* pointer) {
    const hipError_t permitted = check_unsafe_call();
    if (permitted != hipSuccess) return permitted;
    if (pointer == nullptr) return hipSuccess;
    const auto region = Regions::instance().remove(
        pointer, [](const Region& candidate) { return candidate.kind == RegionKind::kHostPinned; });
    return region != nullptr ? hipSuccess : hipErrorInvalidValue;
}

}  // namespace
}  // namespace hipcomm::cpu

using namespace hipcomm::cpu;

hipError_t hipHostMalloc(void** pointer, size_t bytes, unsigned int flags) {
    return api([&] { return allocate(pointer, bytes, flags); });
}

hipError_t hipHostFree(void* pointer) {
    return api([&] { return release(pointer); });
}

hipError_t hipHostGetDevicePointer(void** device_pointer, void* host_pointer, unsigned int flags) {
    return api([&] {
        if (device_pointer == nullptr || host_pointer == nullptr || flags != 0) return hipErrorInvalidValue;
        const auto region = Regions::instance().find(host_pointer);
        if (region == nullptr || !region->is_host()) return hipErrorInvalidValue;
        *device_pointer = host_pointer;
        return hipSuccess;
    });
}

hipError_t hipHostGetFlags(unsigned int* flags, void* host_pointer) {
    return api([&] {
        if (flags == nullptr || host_pointer == nullptr) return hipErrorInvalidValue;
        const auto region = Regions::instance().find(host_pointer);
        if (region == nullptr || !region->is_host()) return hipErrorInvalidValue;
        *flags = region->flags;
        return hipSuccess;
    });
}

hipError_t hipHostRegister(void* pointer, size_t bytes, unsigned int flags) {
    return api([&] {
        if (pointer == nullptr || bytes == 0 || (flags & ~kRegisterFlags) != 0) return hipErrorInvalidValue;
        if (Regions::instance().overlaps(pointer, bytes)) return hipErrorHostMemoryAlreadyRegistered;
        const Access access = flags & hipHostRegisterReadOnly ? Access::kRead : Access::kWrite;
        if (!is_accessible(pointer, bytes, access)) return hipErrorInvalidValue;
        auto region = std::make_shared<Region>();
        region->kind = RegionKind::kHostRegistered;
        region->base = reinterpret_cast<uintptr_t>(pointer);
        region->bytes = bytes;
        region->device = current_device();
        region->flags = flags;
        const bool is_new = Regions::instance().insert(std::move(region));
        return is_new ? hipSuccess : hipErrorHostMemoryAlreadyRegistered;
    });
}

hipError_t hipHostUnregister(void* pointer) {
    return api([&] {
        if (pointer == nullptr) return hipErrorInvalidValue;
        const auto region = Regions::instance().remove(
            pointer, [](const Region& candidate) { return candidate.kind == RegionKind::kHostRegistered; });
        return region != nullptr ? hipSuccess : hipErrorHostMemoryNotRegistered;
    });
}
