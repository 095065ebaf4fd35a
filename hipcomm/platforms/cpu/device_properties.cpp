// What a CPU device says about itself: one struct, and the attributes read from it.
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

hipError_t describe(hipDeviceProp_tR0600& properties, int device) {
    std::memset(&properties, 0, sizeof properties);

    // Identity.
    char pci[16];
    hipError_t result = hipDeviceGetName(properties.name, sizeof properties.name, device);
    if (result == hipSuccess) result = hipDeviceGetUuid(&properties.uuid, device);
    if (result == hipSuccess) result = hipDeviceGetPCIBusId(pci, sizeof pci, device);
    if (result != hipSuccess) return result;
    unsigned domain = 0;
    unsigned bus = 0;
    unsigned slot = 0;
    if (std::sscanf(pci, "%x:%x:%x", &domain, &bus, &slot) != 3) return hipErrorUnknown;
    properties.pciDomainID = static_cast<int>(domain);
    properties.pciBusID = static_cast<int>(bus);
    properties.pciDeviceID = static_cast<int>(slot);
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
    properties.concurrentKernels = 1;
    properties.streamPrioritiesSupported = 1;
    return hipSuccess;
}

hipError_t read_attribute(int& value, hipDeviceAttribute_t attribute, const hipDeviceProp_tR0600& p) {
    const auto clamp = [](size_t bytes) { return bytes > INT_MAX ? INT_MAX : static_cast<int>(bytes); };
    switch (attribute) {
        case hipDeviceAttributeEccEnabled: value = p.ECCEnabled; break;
        case hipDeviceAttributeAsyncEngineCount: value = p.asyncEngineCount; break;
        case hipDeviceAttributeCanMapHostMemory: value = p.canMapHostMemory; break;
        case hipDeviceAttributeCanUseHostPointerForRegisteredMem:
            value = p.canUseHostPointerForRegisteredMem;
            break;
        case hipDeviceAttributeClockRate: value = p.clockRate; break;
        case hipDeviceAttributeComputeMode: value = p.computeMode; break;
        case hipDeviceAttributeComputePreemptionSupported: value = p.computePreemptionSupported; break;
        case hipDeviceAttributeConcurrentKernels: value = p.concurrentKernels; break;
        case hipDeviceAttributeConcurrentManagedAccess: value = p.concurrentManagedAccess; break;
        case hipDeviceAttributeCooperativeLaunch: value = p.cooperativeLaunch; break;
        case hipDeviceAttributeCooperativeMultiDeviceLaunch: value = p.cooperativeMultiDeviceLaunch; break;
        case hipDeviceAttributeHostNativeAtomicSupported: value = p.hostNativeAtomicSupported; break;
        case hipDeviceAttributeIntegrated: value = p.integrated; break;
        case hipDeviceAttributeIsMultiGpuBoard: value = p.isMultiGpuBoard; break;
        case hipDeviceAttributeKernelExecTimeout: value = p.kernelExecTimeoutEnabled; break;
        case hipDeviceAttributeL2CacheSize: value = p.l2CacheSize; break;
        case hipDeviceAttributeComputeCapabilityMajor: value = p.major; break;
        case hipDeviceAttributeComputeCapabilityMinor: value = p.minor; break;
        case hipDeviceAttributeManagedMemory: value = p.managedMemory; break;
        case hipDeviceAttributeMaxBlocksPerMultiProcessor: value = p.maxBlocksPerMultiProcessor; break;
        case hipDeviceAttributeMaxBlockDimX: value = p.maxThreadsDim[0]; break;
        case hipDeviceAttributeMaxBlockDimY: value = p.maxThreadsDim[1]; break;
        case hipDeviceAttributeMaxBlockDimZ: value = p.maxThreadsDim[2]; break;
        case hipDeviceAttributeMaxThreadsDim: value = p.maxThreadsDim[0]; break;
        case hipDeviceAttributeMaxGridDimX: value = p.maxGridSize[0]; break;
        case hipDeviceAttributeMaxGridDimY: value = p.maxGridSize[1]; break;
        case hipDeviceAttributeMaxGridDimZ: value = p.maxGridSize[2]; break;
        case hipDeviceAttributeMaxThreadsPerBlock: value = p.maxThreadsPerBlock; break;
        case hipDeviceAttributeMaxThreadsPerMultiProcessor: value = p.maxThreadsPerMultiProcessor; break;
        case hipDeviceAttributeMaxPitch: value = clamp(p.memPitch); break;
        case hipDeviceAttributeMemoryBusWidth: value = p.memoryBusWidth; break;
        case hipDeviceAttributeMemoryClockRate: value = p.memoryClockRate; break;
        case hipDeviceAttributeMultiprocessorCount: value = p.multiProcessorCount; break;
        case hipDeviceAttributePhysicalMultiProcessorCount: value = p.multiProcessorCount; break;
        case hipDeviceAttributePageableMemoryAccess: value = p.pageableMemoryAccess; break;
        case hipDeviceAttributePciBusId: value = p.pciBusID; break;
        case hipDeviceAttributePciDeviceId: value = p.pciDeviceID; break;
        case hipDeviceAttributePciDomainId: value = p.pciDomainID; break;
        case hipDeviceAttributeMaxRegistersPerBlock: value = p.regsPerBlock; break;
        case hipDeviceAttributeMaxRegistersPerMultiprocessor: value = p.regsPerMultiprocessor; break;
        case hipDeviceAttributeReservedSharedMemPerBlock: value = clamp(p.reservedSharedMemPerBlock); break;
        case hipDeviceAttributeMaxSharedMemoryPerBlock: value = clamp(p.sharedMemPerBlock); break;
        case hipDeviceAttributeSharedMemPerBlockOptin: value = clamp(p.sharedMemPerBlockOptin); break;
        case hipDeviceAttributeSharedMemPerMultiprocessor: value = clamp(p.sharedMemPerMultiprocessor); break;
        case hipDeviceAttributeMaxSharedMemoryPerMultiprocessor:
            value = clamp(p.maxSharedMemoryPerMultiProcessor);
            break;
        case hipDeviceAttributeStreamPrioritiesSupported: value = p.streamPrioritiesSupported; break;
        case hipDeviceAttributeTotalConstantMemory: value = clamp(p.totalConstMem); break;
        case hipDeviceAttributeTotalGlobalMem: value = clamp(p.totalGlobalMem); break;
        case hipDeviceAttributeUnifiedAddressing: value = p.unifiedAddressing; break;
        case hipDeviceAttributeWarpSize: value = p.warpSize; break;
        case hipDeviceAttributeMemoryPoolsSupported: value = p.memoryPoolsSupported; break;
        case hipDeviceAttributeHostRegisterSupported: value = p.hostRegisterSupported; break;
        case hipDeviceAttributeClockInstructionRate: value = p.clockInstructionRate; break;
        case hipDeviceAttributeIsLargeBar: value = p.isLargeBar; break;
        case hipDeviceAttributeAsicRevision: value = p.asicRevision; break;
        case hipDeviceAttributeFineGrainSupport: value = 1; break;
        case hipDeviceAttributeWallClockRate: value = kWallClockKhz; break;
        case hipDeviceAttributeVirtualMemoryManagementSupported:
        case hipDeviceAttributeCanUseStreamWaitValue:
        case hipDeviceAttributeImageSupport: value = 0; break;
        default: return hipErrorInvalidValue;
    }
    return hipSuccess;
}

}  // namespace
}  // namespace hipcomm::cpu

using namespace hipcomm::cpu;

hipError_t hipGetDevicePropertiesR0600(hipDeviceProp_tR0600* properties, int device) {
    return api([&] {
        if (properties == nullptr) return hipErrorInvalidValue;
        if (!is_device(device)) return hipErrorInvalidDevice;
        return describe(*properties, device);
    });
}

hipError_t hipGetDeviceProperties(hipDeviceProp_tR0600* properties, int device) {
    return hipGetDevicePropertiesR0600(properties, device);
}

hipError_t hipDeviceGetAttribute(int* value, hipDeviceAttribute_t attribute, int device) {
    return api([&] {
        if (value == nullptr) return hipErrorInvalidValue;
        if (!is_device(device)) return hipErrorInvalidDevice;
        hipDeviceProp_tR0600 properties;
        const hipError_t result = describe(properties, device);
        return result == hipSuccess ? read_attribute(*value, attribute, properties) : result;
    });
}

hipError_t hipDeviceComputeCapability(int* major, int* minor, hipDevice_t device) {
    return api([&] {
        if (major == nullptr || minor == nullptr) return hipErrorInvalidValue;
        if (!is_device(device)) return hipErrorInvalidDevice;
        hipDeviceProp_tR0600 properties;
        const hipError_t result = describe(properties, device);
        if (result != hipSuccess) return result;
        *major = properties.major;
        *minor = properties.minor;
        return hipSuccess;
    });
}
