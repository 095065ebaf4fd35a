// Pinned host memory.
#include "context.h"

using namespace hipcomm::cuda;

// Pinned memory of HIP is visible to every device whether asked for or not, so both flags are always set.
static constexpr unsigned kVisibleEverywhere = CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP;

hipError_t hipHostMalloc(void** pointer, size_t bytes, unsigned int flags) {
    // Pinned host memory of CUDA is coherent; where it lies is the kernel's choice.  These say no more.
    constexpr unsigned without_effect =
        hipHostMallocUncached | hipHostMallocNumaUser | hipHostMallocCoherent | hipHostMallocNonCoherent;
    constexpr unsigned same_number = hipHostMallocPortable | hipHostMallocMapped | hipHostMallocWriteCombined;
    constexpr unsigned contradiction = hipHostMallocCoherent | hipHostMallocNonCoherent;
    if (pointer == nullptr || (flags & ~(without_effect | same_number)) != 0 ||
        (flags & contradiction) == contradiction) {
        return report(hipErrorInvalidValue);
    }
    if (bytes == 0) {
        *pointer = nullptr;
        return hipSuccess;
    }
    return call(driver.cuMemHostAlloc, pointer, bytes, (flags & same_number) | kVisibleEverywhere);
}

hipError_t hipHostFree(void* pointer) {
    return pointer == nullptr ? hipSuccess : call(driver.cuMemFreeHost, pointer);
}

hipError_t hipHostGetDevicePointer(void** device_pointer, void* host_pointer, unsigned int flags) {
    return call(driver.cuMemHostGetDevicePointer_v2, device_pointer, host_pointer, flags);
}

hipError_t hipHostGetFlags(unsigned int* flags, void* host_pointer) {
    return call(driver.cuMemHostGetFlags, flags, host_pointer);
}

hipError_t hipHostRegister(void* pointer, size_t bytes, unsigned int flags) {
    constexpr unsigned same_number =
        hipHostRegisterPortable | hipHostRegisterMapped | hipHostRegisterIoMemory | hipHostRegisterReadOnly;
    if (pointer == nullptr || bytes == 0 || (flags & ~same_number) != 0) {
        return report(hipErrorInvalidValue);
    }
    return call(driver.cuMemHostRegister_v2, pointer, bytes, flags | kVisibleEverywhere);
}

hipError_t hipHostUnregister(void* pointer) { return call(driver.cuMemHostUnregister, pointer); }
