// Kernel launches: the calling thread interprets the kernel, or a graph keeps it.
#include <atomic>
#include <cstring>
#include <vector>

#include "../cpu/capture.h"
#include "../cpu/device.h"
#include "execution.h"
#include "module.h"
#include "together.h"

namespace hipcomm::amd {
namespace {

using Arguments = std::vector<uint8_t>;

struct Shape {
    dim3 grid, block;
    size_t shared_bytes;
};

// After a fault the GPU's process can launch nothing more, as on a machine.
std::atomic<bool> has_faulted{false};

// What a launch runs, and what a graph keeps of it.
struct Work {
    std::shared_ptr<const Kernel> kernel;
    std::shared_ptr<const Arguments> arguments;
    Shape shape;
    int device;

    hipError_t operator()() const {
        if (has_faulted.load(std::memory_order_relaxed)) return hipErrorLaunchFailure;
        const hipError_t result = guarded(hipErrorLaunchFailure, [&] {
            Launch launch(*kernel, shape.grid.x, shape.block.x, uint32_t(shape.shared_bytes),
                          arguments->data(), arguments->size(), device);
            run(launch);
        });
        if (result != hipSuccess) has_faulted.store(true, std::memory_order_relaxed);
        return result;
    }
};

hipError_t check_shape(const Kernel& kernel, const Shape& shape) {
    const bool is_flat = shape.grid.y == 1 && shape.grid.z == 1 && shape.block.y == 1 && shape.block.z == 1;
    if (shape.grid.x == 0 || shape.block.x == 0 || shape.block.x > 1024 || !is_flat)
        return hipErrorInvalidConfiguration;
    return kernel.shared_bytes + shape.shared_bytes <= kernel.target->shared_bytes ? hipSuccess
                                                                                   : hipErrorInvalidValue;
}

// The argument segment, from HIP's list of pointers or from a ready one.
hipError_t pack(const Kernel& kernel, void** parameters, void** extra, Arguments& segment) {
    if (extra != nullptr) {
        if (parameters != nullptr || extra[0] != HIP_LAUNCH_PARAM_BUFFER_POINTER ||
            extra[2] != HIP_LAUNCH_PARAM_BUFFER_SIZE || extra[3] == nullptr ||
            extra[4] != HIP_LAUNCH_PARAM_END)
            return hipErrorInvalidValue;
        const size_t bytes = *static_cast<const size_t*>(extra[3]);
        if (bytes > 0 && extra[1] == nullptr) return hipErrorInvalidValue;
        const uint8_t* const data = static_cast<const uint8_t*>(extra[1]);
        segment.assign(data, data + bytes);
        return hipSuccess;
    }
    size_t bytes = 0;
    for (size_t index = 0; index < kernel.argument_sizes.size(); ++index)
        bytes = std::max<size_t>(bytes, kernel.argument_offsets[index] + kernel.argument_sizes[index]);
    segment.assign(bytes, 0);
    for (size_t index = 0; index < kernel.argument_sizes.size(); ++index) {
        if (parameters == nullptr || parameters[index] == nullptr) return hipErrorInvalidValue;
        std::memcpy(segment.data() + kernel.argument_offsets[index], parameters[index],
                    kernel.argument_sizes[index]);
    }
    return hipSuccess;
}

hipError_t launch(const void* handle, const Shape& shape, hipStream_t stream, void** parameters,
                  void** extra) {
    const ihipModuleSymbol_t* const function = find_function(handle);
    if (function == nullptr) return hipErrorInvalidHandle;
    hipError_t valid = check_shape(*function->kernel, shape);
    auto segment = std::make_shared<Arguments>();
    if (valid == hipSuccess) valid = pack(*function->kernel, parameters, extra, *segment);
    if (valid != hipSuccess) return valid;
    return cpu::submit(stream, hipGraphNodeTypeKernel,
                       Work{function->kernel, std::move(segment), shape, cpu::current_device()});
}

}  // namespace
}  // namespace hipcomm::amd

using namespace hipcomm::amd;
using hipcomm::cpu::api;

hipError_t hipModuleLaunchKernel(hipFunction_t function, unsigned int grid_x, unsigned int grid_y,
                                 unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                                 unsigned int block_z, unsigned int shared_bytes, hipStream_t stream,
                                 void** kernel_params, void** extra) {
    return api([&] {
        return launch(function, {{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes}, stream,
                      kernel_params, extra);
    });
}

// All blocks of a grid advance together.
hipError_t hipModuleLaunchCooperativeKernel(hipFunction_t function, unsigned int grid_x, unsigned int grid_y,
                                            unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                                            unsigned int block_z, unsigned int shared_bytes,
                                            hipStream_t stream, void** kernel_params) {
    return hipModuleLaunchKernel(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes,
                                 stream, kernel_params, nullptr);
}

hipError_t hipLaunchKernel(const void* function, dim3 grid, dim3 block, void** kernel_params,
                           size_t shared_bytes, hipStream_t stream) {
    return api([&] { return launch(function, {grid, block, shared_bytes}, stream, kernel_params, nullptr); });
}
