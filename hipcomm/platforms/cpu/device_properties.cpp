// What a CPU device says about itself.
#include <sys/utsname.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstring>

#include "device.h"
#include "error.h"
#include "kernel_abi.h"

namespace hipcomm::cpu {
namespace {

// Kernels read CLOCK_MONOTONIC in nanoseconds: a clock of 10^6 kHz.
constexpr int kWallClockKhz = 1000000;

int cache_bytes(int name) {
    const long bytes = sysconf(name);
    return bytes > 0 && bytes <= INT_MAX ? static_cast<int>(bytes) : 0;
}

// Features behind the architecture's name, as AMD writes them: those that code objects are built for.
const char* features() {
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2")) return ":avx2+";
#endif
    return "";
}

void set_dimensions(int (&dimensions)[3], int x, int y, int z) {
    dimensions[0] = x;
    dimensions[1] = y;
    dimensions[2] = z;
}

}  // namespace

const char* device_kind() noexcept { return "hipcomm CPU device"; }

hipError_t describe_device(hipDeviceProp_tR0600& properties, int device) {
    std::memset(&properties, 0, sizeof properties);

    const hipError_t result = identify_device(properties, device);
    if (result != hipSuccess) return result;
    utsname machine;
    if (uname(&machine) != 0) return hipErrorOperatingSystem;
    std::snprintf(properties.gcnArchName, sizeof properties.gcnArchName, "%s%s", machine.machine, features());
    properties.major = 1;
    properties.arch.hasGlobalInt32Atomics = 1;
    properties.arch.hasGlobalInt64Atomics = 1;
    properties.arch.hasDoubles = 1;
    properties.arch.hasThreadFenceSystem = 1;
    properties.arch.has3dGrid = 1;

    // Geometry: a block is one thread, a warp is one lane, blocks run one after the other.
    properties.warpSize = 1;
    properties.multiProcessorCount = 1;
    properties.maxThreadsPerBlock = 1;
    properties.maxThreadsPerMultiProcessor = 1;
    properties.maxBlocksPerMultiProcessor = 1;
    set_dimensions(properties.maxThreadsDim, 1, 1, 1);
    set_dimensions(properties.maxGridSize, INT_MAX, 65536, 65536);

    // Memory.
    properties.totalGlobalMem = device_memory_bytes();
    properties.memPitch = INT_MAX;
    properties.memoryBusWidth = 64;
    properties.l2CacheSize = cache_bytes(_SC_LEVEL2_CACHE_SIZE);
    properties.sharedMemPerBlock = HIPCOMM_CPU_MAX_SHARED_BYTES;
    properties.sharedMemPerBlockOptin = HIPCOMM_CPU_MAX_SHARED_BYTES;
    properties.sharedMemPerMultiprocessor = HIPCOMM_CPU_MAX_SHARED_BYTES;
    properties.maxSharedMemoryPerMultiProcessor = HIPCOMM_CPU_MAX_SHARED_BYTES;

    // Clocks, in kHz.
    properties.clockRate = kWallClockKhz;
    properties.clockInstructionRate = kWallClockKhz;
    properties.memoryClockRate = kWallClockKhz;

    // Abilities.
    properties.integrated = 1;
    properties.isLargeBar = 1;
    properties.canMapHostMemory = 1;
    properties.unifiedAddressing = 1;
    properties.hostRegisterSupported = 1;
    properties.canUseHostPointerForRegisteredMem = 1;
    properties.hostNativeAtomicSupported = 1;
    properties.pageableMemoryAccess = 1;
    properties.pageableMemoryAccessUsesHostPageTables = 1;
    properties.concurrentKernels = 0;  // a launch runs in the calling thread
    properties.streamPrioritiesSupported = 1;
    return hipSuccess;
}

}  // namespace hipcomm::cpu
