// The attributes of a device, which are read from its properties, and what identifies it in them.
#include <climits>
#include <cstdio>
#include <cstring>

#include "device.h"
#include "error.h"

namespace hipcomm::cpu {
namespace {

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
        case hipDeviceAttributeWallClockRate: value = p.clockInstructionRate; break;
        case hipDeviceAttributeVirtualMemoryManagementSupported:
        case hipDeviceAttributeCanUseStreamWaitValue:
        case hipDeviceAttributeImageSupport: value = 0; break;
        default: return hipErrorInvalidValue;
    }
    return hipSuccess;
}

}  // namespace

hipError_t identify_device(hipDeviceProp_tR0600& properties, int device) {
    std::memset(&properties, 0, sizeof properties);
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
    return hipSuccess;
}

}  // namespace hipcomm::cpu

using namespace hipcomm::cpu;

hipError_t hipGetDevicePropertiesR0600(hipDeviceProp_tR0600* properties, int device) {
    return api([&] {
        if (properties == nullptr) return hipErrorInvalidValue;
        if (!is_device(device)) return hipErrorInvalidDevice;
        return describe_device(*properties, device);
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
        const hipError_t result = describe_device(properties, device);
        return result == hipSuccess ? read_attribute(*value, attribute, properties) : result;
    });
}

