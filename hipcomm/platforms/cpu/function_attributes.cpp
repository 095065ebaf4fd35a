// What can be asked about a function, and how many of its blocks fit: a block is one thread, and one runs.
#include "error.h"
#include "module.h"

using namespace hipcomm::cpu;

hipError_t hipFuncGetAttribute(int* value, hipFunction_attribute attribute, hipFunction_t function) {
    return api([&] {
        if (value == nullptr) return hipErrorInvalidValue;
        if (find_function(function) == nullptr) return hipErrorInvalidHandle;
        switch (attribute) {
            case HIP_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = 1; break;
            case HIP_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
                *value = HIPCOMM_CPU_MAX_SHARED_BYTES;
                break;
            case HIP_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
            case HIP_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
            case HIP_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
            case HIP_FUNC_ATTRIBUTE_NUM_REGS:
            case HIP_FUNC_ATTRIBUTE_PTX_VERSION:
            case HIP_FUNC_ATTRIBUTE_BINARY_VERSION:
            case HIP_FUNC_ATTRIBUTE_CACHE_MODE_CA:
            case HIP_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT: *value = 0; break;
            default: return hipErrorInvalidValue;
        }
        return hipSuccess;
    });
}

hipError_t hipFuncSetAttribute(const void* function, hipFuncAttribute attribute, int value) {
    return api([&] {
        if (find_function(function) == nullptr) return hipErrorInvalidDeviceFunction;
        switch (attribute) {
            case hipFuncAttributeMaxDynamicSharedMemorySize:
                return value >= 0 && value <= static_cast<int>(HIPCOMM_CPU_MAX_SHARED_BYTES)
                           ? hipSuccess
                           : hipErrorInvalidValue;
            case hipFuncAttributePreferredSharedMemoryCarveout:
                return value >= -1 && value <= 100 ? hipSuccess : hipErrorInvalidValue;
            default: return hipErrorInvalidValue;
        }
    });
}

hipError_t hipModuleOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, hipFunction_t function,
                                                              int block_size, size_t shared_bytes) {
    return api([&] {
        if (blocks == nullptr || block_size != 1) return hipErrorInvalidValue;
        if (find_function(function) == nullptr) return hipErrorInvalidHandle;
        *blocks = shared_bytes <= HIPCOMM_CPU_MAX_SHARED_BYTES ? 1 : 0;
        return hipSuccess;
    });
}

hipError_t hipModuleOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, hipFunction_t function,
                                                                       int block_size, size_t shared_bytes,
                                                                       unsigned int flags) {
    constexpr unsigned kDisableCachingOverride = 1;
    if (flags > kDisableCachingOverride) return report(hipErrorInvalidValue);
    return hipModuleOccupancyMaxActiveBlocksPerMultiprocessor(blocks, function, block_size, shared_bytes);
}
