// What can be asked about a function, and how many of its blocks fit: all blocks of a launch advance
// together.
#include "module.h"
#include "settings.h"

using namespace hipcomm::amd;
using hipcomm::cpu::api;
using hipcomm::cpu::report;

hipError_t hipFuncGetAttribute(int* value, hipFunction_attribute attribute, hipFunction_t function) {
    return api([&] {
        if (value == nullptr) return hipErrorInvalidValue;
        const ihipModuleSymbol_t* const found = find_function(function);
        if (found == nullptr) return hipErrorInvalidHandle;
        const Kernel& kernel = *found->kernel;
        switch (attribute) {
            case HIP_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = 1024; break;
            case HIP_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
                *value = int(kernel.target->shared_bytes - kernel.shared_bytes);
                break;
            case HIP_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES: *value = int(kernel.shared_bytes); break;
            case HIP_FUNC_ATTRIBUTE_NUM_REGS: *value = int(kernel.vectors); break;
            case HIP_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
            case HIP_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
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
        const ihipModuleSymbol_t* const found = find_function(function);
        if (found == nullptr) return hipErrorInvalidDeviceFunction;
        switch (attribute) {
            case hipFuncAttributeMaxDynamicSharedMemorySize:
                return value >= 0 && value <= int(found->kernel->target->shared_bytes) ? hipSuccess
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
        if (blocks == nullptr || block_size < 1 || block_size > 1024) return hipErrorInvalidValue;
        const ihipModuleSymbol_t* const found = find_function(function);
        if (found == nullptr) return hipErrorInvalidHandle;
        *blocks = found->kernel->shared_bytes + shared_bytes <= found->kernel->target->shared_bytes ? 1 : 0;
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
