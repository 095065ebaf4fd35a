// Kernel launches.
//
// A plain launch is a few comparisons, then the kernel: no lock, no look-up, no allocation.  It holds nothing
// while the kernel runs, because kernels wait for other threads and other processes.
#include <cfenv>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "capture.h"
#include "error.h"
#include "host_access.h"
#include "module.h"

namespace hipcomm::cpu {
namespace {

constexpr size_t kKernargAlignment = 16;
constexpr size_t kSharedAlignment = 64;

struct Shape {
    dim3 grid;
    dim3 block;
    size_t shared_bytes;
};

// The argument segment of a launch.
struct Arguments {
    const void* data = nullptr;
    size_t bytes = 0;  // 0: not known, one argument that the code object does not declare
};

struct FreeMemory {
    void operator()(void* memory) const { std::free(memory); }
};

// The dynamic shared memory of the blocks that this thread runs; made by the first launch that wants any.
void* shared_memory() {
    thread_local std::unique_ptr<void, FreeMemory> memory(
        std::aligned_alloc(kSharedAlignment, HIPCOMM_CPU_MAX_SHARED_BYTES));
    return memory.get();
}

// Kernels round to nearest even and keep denormals, whatever the caller's thread does; it finds its own state again.
class DefaultFloatingPoint {
public:
#ifdef __x86_64__
    // The vector unit's alone, which is what kernels use: a few nanoseconds, where fesetenv() takes fifty.
    DefaultFloatingPoint() noexcept : callers_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(0x1f80); }
    ~DefaultFloatingPoint() { __builtin_ia32_ldmxcsr(callers_); }
#else
    DefaultFloatingPoint() noexcept {
        std::fegetenv(&callers_);
        std::fesetenv(FE_DFL_ENV);
    }
    ~DefaultFloatingPoint() { std::fesetenv(&callers_); }
#endif
    DefaultFloatingPoint(const DefaultFloatingPoint&) = delete;
    DefaultFloatingPoint& operator=(const DefaultFloatingPoint&) = delete;

private:
#ifdef __x86_64__
    unsigned callers_;
#else
    std::fenv_t callers_;
#endif
};

hipError_t run(hipcommCpuKernel kernel, const void* kernarg, const Shape& shape) {
    hipcommCpuBlock block;
    block.grid[0] = shape.grid.x;
    block.grid[1] = shape.grid.y;
    block.grid[2] = shape.grid.z;
    block.block_dim[0] = block.block_dim[1] = block.block_dim[2] = 1;
    block.shared_bytes = static_cast<uint32_t>(shape.shared_bytes);
    block.shared = nullptr;
    if (shape.shared_bytes > 0) {
        block.shared = shared_memory();
        if (block.shared == nullptr) return hipErrorOutOfMemory;
    }
    const DefaultFloatingPoint state;
    for (uint32_t z = 0; z < shape.grid.z; ++z) {
        for (uint32_t y = 0; y < shape.grid.y; ++y) {
            for (uint32_t x = 0; x < shape.grid.x; ++x) {
                block.block[0] = x;
                block.block[1] = y;
                block.block[2] = z;
                kernel(kernarg, &block);
            }
        }
    }
    return hipSuccess;
}

// A captured launch keeps its own copy of the arguments and the code object.
struct CapturedLaunch {
    struct alignas(kSharedAlignment) Line {
        unsigned char bytes[kSharedAlignment];
    };
    std::shared_ptr<const SharedObject> object;
    hipcommCpuKernel kernel;
    std::shared_ptr<const std::vector<Line>> kernarg;
    Shape shape;

    hipError_t operator()() const { return run(kernel, kernarg->data(), shape); }
};

hipError_t capture(ihipStream_t& stream, const ihipModuleSymbol_t& function, Arguments arguments,
                   const Shape& shape) {
    if (arguments.bytes == 0 && arguments.data != nullptr) {
        // A single argument of undeclared size: what is readable, up to the largest segment, contains it.
        arguments.bytes = readable_prefix(arguments.data, kMaxKernargBytes);
        if (arguments.bytes == 0) return hipErrorInvalidValue;
    }
    using Line = CapturedLaunch::Line;
    auto kernarg = std::make_shared<std::vector<Line>>((arguments.bytes + sizeof(Line) - 1) / sizeof(Line));
    if (arguments.bytes > 0) std::memcpy(kernarg->data(), arguments.data, arguments.bytes);
    return record_operation(stream, hipGraphNodeTypeKernel,
                            CapturedLaunch{function.object, function.kernel, std::move(kernarg), shape});
}

inline hipError_t launch_segment(const ihipModuleSymbol_t& function, const Arguments& arguments,
                                 const Shape& shape, hipStream_t handle) {
    ihipStream_t* const stream = find_stream(handle);
    if (stream == nullptr) return hipErrorInvalidHandle;
    if (__builtin_expect(is_anything_capturing(), 0)) {
        if (stream->is_capturing) return capture(*stream, function, arguments, shape);
        if (is_legacy(*stream)) {
            const hipError_t permitted = check_legacy_use();
            if (permitted != hipSuccess) return permitted;
        }
    }
    return run(function.kernel, arguments.data, shape);
}

// Copies the arguments into one segment first.
__attribute__((noinline)) hipError_t launch_packed(const ihipModuleSymbol_t& function, void** parameters,
                                                   const Shape& shape, hipStream_t stream) {
    alignas(64) unsigned char segment[kMaxKernargBytes];
    size_t index = 0;
    for (const ArgumentLayout::Argument& argument : function.layout.arguments) {
        const void* const value = parameters[index++];
        if (value == nullptr) return hipErrorInvalidValue;
        std::memcpy(segment + argument.offset, value, argument.bytes);
    }
    return launch_segment(function, {segment, function.layout.bytes}, shape, stream);
}

// Copies a segment that is not aligned as the kernel may expect.
__attribute__((noinline)) hipError_t launch_realigned(const ihipModuleSymbol_t& function,
                                                      const Arguments& arguments, const Shape& shape,
                                                      hipStream_t stream) {
    alignas(64) unsigned char segment[kMaxKernargBytes];
    std::memcpy(segment, arguments.data, arguments.bytes);
    return launch_segment(function, {segment, arguments.bytes}, shape, stream);
}

// The launch parameters in HIP's `extra` form: a ready segment and its size.
hipError_t launch_extra(const ihipModuleSymbol_t& function, void** extra, const Shape& shape,
                        hipStream_t stream) {
    if (extra[0] != HIP_LAUNCH_PARAM_BUFFER_POINTER || extra[2] != HIP_LAUNCH_PARAM_BUFFER_SIZE ||
        extra[3] == nullptr || extra[4] != HIP_LAUNCH_PARAM_END) {
        return hipErrorInvalidValue;
    }
    const Arguments arguments = {extra[1], *static_cast<const size_t*>(extra[3])};
    if (arguments.bytes > kMaxKernargBytes || arguments.bytes < function.layout.bytes)
        return hipErrorInvalidValue;
    if (arguments.bytes == 0) return launch_segment(function, {}, shape, stream);
    if (arguments.data == nullptr) return hipErrorInvalidValue;
    const bool is_aligned = reinterpret_cast<uintptr_t>(arguments.data) % kKernargAlignment == 0;
    return is_aligned ? launch_segment(function, arguments, shape, stream)
                      : launch_realigned(function, arguments, shape, stream);
}

hipError_t check_shape(const Shape& shape) {
    if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return hipErrorInvalidConfiguration;
    if (shape.block.x != 1 || shape.block.y != 1 || shape.block.z != 1) return hipErrorInvalidConfiguration;
    return shape.shared_bytes <= HIPCOMM_CPU_MAX_SHARED_BYTES ? hipSuccess : hipErrorInvalidValue;
}

inline hipError_t launch(const ihipModuleSymbol_t& function, const Shape& shape, hipStream_t stream,
                         void** parameters, void** extra) {
    const hipError_t valid = check_shape(shape);
    if (valid != hipSuccess) return valid;
    if (extra != nullptr) {
        return parameters == nullptr ? launch_extra(function, extra, shape, stream) : hipErrorInvalidValue;
    }
    const ArgumentLayout& layout = function.layout;
    if (layout.is_declared && layout.arguments.empty()) return launch_segment(function, {}, shape, stream);
    if (parameters == nullptr) return hipErrorInvalidValue;
    if (layout.is_declared && layout.arguments.size() > 1) {
        return launch_packed(function, parameters, shape, stream);
    }
    // One argument is its own segment, where the caller has it.
    if (parameters[0] == nullptr) return hipErrorInvalidValue;
    return launch_segment(function, {parameters[0], layout.bytes}, shape, stream);
}

}  // namespace
}  // namespace hipcomm::cpu

using namespace hipcomm::cpu;

hipError_t hipModuleLaunchKernel(hipFunction_t function, unsigned int grid_x, unsigned int grid_y,
                                 unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                                 unsigned int block_z, unsigned int shared_bytes, hipStream_t stream,
                                 void** kernel_params, void** extra) {
    return api([&] {
        const ihipModuleSymbol_t* const found = find_function(function);
        if (found == nullptr) return hipErrorInvalidHandle;
        const Shape shape = {{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes};
        return launch(*found, shape, stream, kernel_params, extra);
    });
}

hipError_t hipModuleLaunchCooperativeKernel(hipFunction_t function, unsigned int grid_x, unsigned int grid_y,
                                            unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                                            unsigned int block_z, unsigned int shared_bytes,
                                            hipStream_t stream, void** kernel_params) {
    // Blocks that run one after the other cannot wait for each other: only one block is cooperative.
    if (grid_x != 1 || grid_y != 1 || grid_z != 1) return report(hipErrorCooperativeLaunchTooLarge);
    return hipModuleLaunchKernel(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes,
                                 stream, kernel_params, nullptr);
}

// Without a compiler's host stubs there is nothing but module functions to launch.
hipError_t hipLaunchKernel(const void* function, dim3 grid, dim3 block, void** kernel_params,
                           size_t shared_bytes, hipStream_t stream) {
    return api([&] {
        const ihipModuleSymbol_t* const found = find_function(function);
        if (found == nullptr) return hipErrorInvalidDeviceFunction;
        return launch(*found, {grid, block, shared_bytes}, stream, kernel_params, nullptr);
    });
}
