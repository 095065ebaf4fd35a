// What a software GPU says about itself: an AMD GPU of the chosen architecture, and a name that says what it
// is.
#include <climits>
#include <cstdio>
#include <string>

#include "../cpu/device.h"
#include "settings.h"

using hipcomm::amd::settings;

namespace hipcomm::cpu {
namespace {

constexpr int kWallClockKhz = 100000;

void set_dimensions(int (&dimensions)[3], int x, int y, int z) {
    dimensions[0] = x;
    dimensions[1] = y;
    dimensions[2] = z;
}

}  // namespace

const char* device_kind() noexcept {
    static const std::string kind =
        std::string("AMD GPU in software (") +
        (settings().target != nullptr ? settings().target->name : "unknown architecture") + ")";
    return kind.c_str();
}

hipError_t describe_device(hipDeviceProp_tR0600& properties, int device) {
    const amd::Target* const target = settings().target;
    if (target == nullptr) return hipErrorInvalidDevice;
    const hipError_t result = identify_device(properties, device);
    if (result != hipSuccess) return result;
    const bool is_cdna = target->family == amd::Family::kGfx9;
    std::snprintf(properties.gcnArchName, sizeof properties.gcnArchName, "%s%s", target->name,
                  is_cdna ? ":sramecc+:xnack-" : "");
    properties.major = target->major;
    properties.minor = target->minor;
    properties.arch.hasGlobalInt32Atomics = 1;
    properties.arch.hasGlobalInt64Atomics = 1;
    properties.arch.hasDoubles = 1;
    properties.arch.hasThreadFenceSystem = 1;
    properties.arch.has3dGrid = 1;

    properties.warpSize = target->lanes;
    properties.multiProcessorCount = settings().multiprocessors;
    properties.maxThreadsPerBlock = 1024;
    properties.maxThreadsPerMultiProcessor = 2048;
    properties.maxBlocksPerMultiProcessor = 2;
    set_dimensions(properties.maxThreadsDim, 1024, 1024, 1024);
    set_dimensions(properties.maxGridSize, INT_MAX, 65536, 65536);

    properties.totalGlobalMem = device_memory_bytes();
    properties.memPitch = INT_MAX;
    properties.memoryBusWidth = 64;
    properties.sharedMemPerBlock = target->shared_bytes;
    properties.sharedMemPerBlockOptin = target->shared_bytes;
    properties.sharedMemPerMultiprocessor = target->shared_bytes;
    properties.maxSharedMemoryPerMultiProcessor = target->shared_bytes;
    properties.regsPerBlock = 65536;

    properties.clockRate = 2100000;
    properties.clockInstructionRate = kWallClockKhz;
    properties.memoryClockRate = 1300000;

    properties.isLargeBar = 1;
    properties.canMapHostMemory = 1;
    properties.unifiedAddressing = 1;
    properties.hostRegisterSupported = 1;
    properties.canUseHostPointerForRegisteredMem = 1;
    properties.hostNativeAtomicSupported = 1;
    properties.concurrentKernels = 0;  // a launch runs in the calling thread
    properties.cooperativeLaunch = 1;
    properties.streamPrioritiesSupported = 1;
    return hipSuccess;
}

}  // namespace hipcomm::cpu
