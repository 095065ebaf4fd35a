// Device memory, and what a pointer points to.
#include "context.h"

using namespace hipcomm::cuda;

/* ---- device memory ------------------------------------------------------------------------------ */

hipError_t hipMalloc(void** pointer, size_t bytes) {
    if (pointer == nullptr) {
        return report(hipErrorInvalidValue);
    }
    if (bytes == 0) {  // HIP's answer to nothing is a null pointer, CUDA's an error
        *pointer = nullptr;
        return hipSuccess;
    }
    return call(driver.cuMemAlloc_v2, pointer, bytes);
}

// On NVIDIA GPUs ordinary device memory is coherent for system-scope atomics, over NVLink and PCIe alike, so
// fine-grained, uncached and signal memory are all plain memory.
hipError_t hipExtMallocWithFlags(void** pointer, size_t bytes, unsigned int flags) {
    switch (flags) {
        case hipDeviceMallocDefault:
        case hipDeviceMallocFinegrained:
        case hipMallocSignalMemory:
        case hipDeviceMallocUncached:
        case hipDeviceMallocContiguous:
            return hipMalloc(pointer, bytes);
        default:
            return report(hipErrorInvalidValue);
    }
}

hipError_t hipMallocAsync(void** pointer, size_t bytes, hipStream_t stream) {
    if (pointer == nullptr) {
        return report(hipErrorInvalidValue);
    }
    if (bytes == 0) {
        *pointer = nullptr;
        return hipSuccess;
    }
    return call(driver.cuMemAllocAsync, pointer, bytes, stream);
}

// Freeing nothing is the usual way of asking for a context.
hipError_t hipFree(void* pointer) {
    return pointer == nullptr ? report(attach_thread()) : call(driver.cuMemFree_v2, pointer);
}

hipError_t hipFreeAsync(void* pointer, hipStream_t stream) {
    return pointer == nullptr ? hipSuccess : call(driver.cuMemFreeAsync, pointer, stream);
}

hipError_t hipMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
    return call(driver.cuMemGetInfo_v2, free_bytes, total_bytes);
}

/* ---- what a pointer is -------------------------------------------------------------------------- */

hipError_t hipMemGetAddressRange(hipDeviceptr_t* base, size_t* bytes, hipDeviceptr_t pointer) {
    return call(driver.cuMemGetAddressRange_v2, base, bytes, pointer);
}

// Memory that the driver does not know is not an error: its type is hipMemoryTypeUnregistered.
hipError_t hipPointerGetAttributes(hipPointerAttribute_t* attributes, const void* pointer) {
    if (attributes == nullptr || pointer == nullptr) {
        return report(hipErrorInvalidValue);
    }
    unsigned memory_type = 0;
    unsigned is_managed = 0;
    int device = 0;
    void* device_pointer = nullptr;
    void* host_pointer = nullptr;
    CUpointer_attribute wanted[] = {HIP_POINTER_ATTRIBUTE_MEMORY_TYPE, HIP_POINTER_ATTRIBUTE_IS_MANAGED,
                                    HIP_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
                                    HIP_POINTER_ATTRIBUTE_DEVICE_POINTER,
                                    HIP_POINTER_ATTRIBUTE_HOST_POINTER};
    void* answers[] = {&memory_type, &is_managed, &device, &device_pointer, &host_pointer};
    CUresult result = attempt(driver.cuPointerGetAttributes, 5u, wanted, answers, const_cast<void*>(pointer));
    if (result != CUDA_SUCCESS) {
        return report(result);
    }
    *attributes = {};
    if (memory_type == 0) {
        constexpr int no_device = -2;  // hipInvalidDeviceId
        attributes->type = hipMemoryTypeUnregistered;
        attributes->device = no_device;
        attributes->hostPointer = const_cast<void*>(pointer);
        return hipSuccess;
    }
    // Host and device memory have CUDA's numbers.
    attributes->type = is_managed != 0 ? hipMemoryTypeManaged : static_cast<hipMemoryType>(memory_type);
    attributes->isManaged = is_managed != 0;
    attributes->device = device;
    attributes->devicePointer = device_pointer;
    attributes->hostPointer = host_pointer;
    if (memory_type == hipMemoryTypeHost && is_managed == 0) {
        // Registered memory refuses an interior pointer; its flags then stay at their default, 0.
        if (driver.cuMemHostGetFlags(&attributes->allocationFlags, host_pointer) != CUDA_SUCCESS) {
            attributes->allocationFlags = 0;
        }
    }
    return hipSuccess;
}

