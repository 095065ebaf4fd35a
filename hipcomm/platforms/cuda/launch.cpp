// Launching kernels.
#include "kernel.h"

using namespace hipcomm::cuda;

namespace {

constexpr int kPackedEntries = 5;  // buffer mark, buffer, size mark, size, end mark

// Rewrites HIP's `extra` list, which ends with 3, as CUDA's, which ends with 0.
bool translate_extra(void** extra, void** packed) {
    void* buffer = nullptr;
    void* size = nullptr;
    for (int entries = 0; *extra != HIP_LAUNCH_PARAM_END; extra += 2, ++entries) {
        if (entries == 2) {
            return false;  // only two kinds of entry exist
        }
        if (*extra == HIP_LAUNCH_PARAM_BUFFER_POINTER) {
            buffer = extra[1];
        } else if (*extra == HIP_LAUNCH_PARAM_BUFFER_SIZE) {
            size = extra[1];
        } else {
            return false;
        }
    }
    if (buffer == nullptr || size == nullptr) {
        return false;
    }
    packed[0] = reinterpret_cast<void*>(CU_LAUNCH_PARAM_BUFFER_POINTER_AS_INT);
    packed[1] = buffer;
    packed[2] = reinterpret_cast<void*>(CU_LAUNCH_PARAM_BUFFER_SIZE_AS_INT);
    packed[3] = size;
    packed[4] = reinterpret_cast<void*>(CU_LAUNCH_PARAM_END_AS_INT);
    return true;
}

// A launch that the device may set up while the one before it on the stream is ending.
hipError_t launch_early(hipFunction_t function, CUlaunchConfig config, void** kernel_params, void** extra) {
    CUlaunchAttribute attribute{};
    attribute.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attribute.value.programmaticStreamSerializationAllowed = 1;
    config.attrs = &attribute;
    config.numAttrs = 1;
    const CUlaunchConfig* const launched = &config;
    return call(driver.cuLaunchKernelEx, launched, function_of(function), kernel_params, extra);
}

}  // namespace

// The hot path of every collective: with kernel_params, two branches and the driver.
hipError_t hipModuleLaunchKernel(hipFunction_t function, unsigned int grid_x, unsigned int grid_y,
                                 unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                                 unsigned int block_z, unsigned int shared_bytes, hipStream_t stream,
                                 void** kernel_params, void** extra) {
    void* packed[kPackedEntries];
    if (extra != nullptr) {
        if (kernel_params != nullptr || !translate_extra(extra, packed)) {
            return report(hipErrorInvalidValue);
        }
        extra = packed;
    }
    if (begins_early(function)) {
        const CUlaunchConfig config = {grid_x,  grid_y,       grid_z, block_x, block_y,
                                       block_z, shared_bytes, stream, nullptr, 0};
        return launch_early(function, config, kernel_params, extra);
    }
    return call(driver.cuLaunchKernel, function_of(function), grid_x, grid_y, grid_z, block_x, block_y, block_z,
                shared_bytes, stream, kernel_params, extra);
}

hipError_t hipModuleLaunchCooperativeKernel(hipFunction_t function, unsigned int grid_x, unsigned int grid_y,
                                            unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                                            unsigned int block_z, unsigned int shared_bytes,
                                            hipStream_t stream, void** kernel_params) {
    return call(driver.cuLaunchCooperativeKernel, function_of(function), grid_x, grid_y, grid_z, block_x, block_y, block_z,
                shared_bytes, stream, kernel_params);
}

// `function` is a hipFunction_t, as in hipFuncSetAttribute.
hipError_t hipLaunchKernel(const void* function, dim3 grid, dim3 block, void** kernel_params,
                           size_t shared_bytes, hipStream_t stream) {
    auto handle = static_cast<hipFunction_t>(const_cast<void*>(function));
    return hipModuleLaunchKernel(handle, grid.x, grid.y, grid.z, block.x, block.y, block.z,
                                 static_cast<unsigned>(shared_bytes), stream, kernel_params, nullptr);
}
