// What a device is: properties, attributes, names and identifiers.
#include <climits>
#include <cstdio>

#include "context.h"

using namespace hipcomm::cuda;

namespace {

// Kernels time their waits with %globaltimer, which counts nanoseconds.
constexpr int kWallClockKilohertz = 1000000;

// One device attribute.  A driver older than the attribute calls it invalid: such a device does not have
// what is asked about, and the value is 0.
CUresult query(int* value, CUdevice_attribute attribute, int device) {
    CUresult result = attempt(driver.cuDeviceGetAttribute, value, attribute, device);
    if (result == CUDA_ERROR_INVALID_VALUE) {
        *value = 0;
        return CUDA_SUCCESS;
    }
    return result;
}

// HIP's attributes that are one of CUDA's.
bool cuda_attribute(hipDeviceAttribute_t attribute, CUdevice_attribute* equivalent) {
    switch (attribute) {
#define HIPCOMM_SAME(hip, cuda)                     \
    case hipDeviceAttribute##hip:                   \
        *equivalent = CU_DEVICE_ATTRIBUTE_##cuda;   \
        return true;
        HIPCOMM_SAME(EccEnabled, ECC_ENABLED)
        HIPCOMM_SAME(AsyncEngineCount, ASYNC_ENGINE_COUNT)
        HIPCOMM_SAME(CanMapHostMemory, CAN_MAP_HOST_MEMORY)
        HIPCOMM_SAME(CanUseHostPointerForRegisteredMem, CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM)
        HIPCOMM_SAME(ClockRate, CLOCK_RATE)
        HIPCOMM_SAME(ComputeMode, COMPUTE_MODE)
        HIPCOMM_SAME(ComputePreemptionSupported, COMPUTE_PREEMPTION_SUPPORTED)
        HIPCOMM_SAME(ConcurrentKernels, CONCURRENT_KERNELS)
        HIPCOMM_SAME(ConcurrentManagedAccess, CONCURRENT_MANAGED_ACCESS)
        HIPCOMM_SAME(CooperativeLaunch, COOPERATIVE_LAUNCH)
        HIPCOMM_SAME(CooperativeMultiDeviceLaunch, COOPERATIVE_MULTI_DEVICE_LAUNCH)
        HIPCOMM_SAME(HostNativeAtomicSupported, HOST_NATIVE_ATOMIC_SUPPORTED)
        HIPCOMM_SAME(Integrated, INTEGRATED)
        HIPCOMM_SAME(IsMultiGpuBoard, MULTI_GPU_BOARD)
        HIPCOMM_SAME(KernelExecTimeout, KERNEL_EXEC_TIMEOUT)
        HIPCOMM_SAME(L2CacheSize, L2_CACHE_SIZE)
        HIPCOMM_SAME(ComputeCapabilityMajor, COMPUTE_CAPABILITY_MAJOR)
        HIPCOMM_SAME(ComputeCapabilityMinor, COMPUTE_CAPABILITY_MINOR)
        HIPCOMM_SAME(ManagedMemory, MANAGED_MEMORY)
        HIPCOMM_SAME(MaxBlocksPerMultiProcessor, MAX_BLOCKS_PER_MULTIPROCESSOR)
        HIPCOMM_SAME(MaxBlockDimX, MAX_BLOCK_DIM_X)
        HIPCOMM_SAME(MaxBlockDimY, MAX_BLOCK_DIM_Y)
        HIPCOMM_SAME(MaxBlockDimZ, MAX_BLOCK_DIM_Z)
        HIPCOMM_SAME(MaxGridDimX, MAX_GRID_DIM_X)
        HIPCOMM_SAME(MaxGridDimY, MAX_GRID_DIM_Y)
        HIPCOMM_SAME(MaxGridDimZ, MAX_GRID_DIM_Z)
        HIPCOMM_SAME(MaxThreadsDim, MAX_BLOCK_DIM_X)
        HIPCOMM_SAME(MaxThreadsPerBlock, MAX_THREADS_PER_BLOCK)
        HIPCOMM_SAME(MaxThreadsPerMultiProcessor, MAX_THREADS_PER_MULTIPROCESSOR)
        HIPCOMM_SAME(MaxPitch, MAX_PITCH)
        HIPCOMM_SAME(MemoryBusWidth, GLOBAL_MEMORY_BUS_WIDTH)
        HIPCOMM_SAME(MemoryClockRate, MEMORY_CLOCK_RATE)
        HIPCOMM_SAME(MultiprocessorCount, MULTIPROCESSOR_COUNT)
        HIPCOMM_SAME(PageableMemoryAccess, PAGEABLE_MEMORY_ACCESS)
        HIPCOMM_SAME(PciBusId, PCI_BUS_ID)
        HIPCOMM_SAME(PciDeviceId, PCI_DEVICE_ID)
        HIPCOMM_SAME(PciDomainId, PCI_DOMAIN_ID)
        HIPCOMM_SAME(MaxRegistersPerBlock, MAX_REGISTERS_PER_BLOCK)
        HIPCOMM_SAME(MaxRegistersPerMultiprocessor, MAX_REGISTERS_PER_MULTIPROCESSOR)
        HIPCOMM_SAME(ReservedSharedMemPerBlock, RESERVED_SHARED_MEMORY_PER_BLOCK)
        HIPCOMM_SAME(MaxSharedMemoryPerBlock, MAX_SHARED_MEMORY_PER_BLOCK)
        HIPCOMM_SAME(SharedMemPerBlockOptin, MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)
        HIPCOMM_SAME(SharedMemPerMultiprocessor, MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)
        HIPCOMM_SAME(StreamPrioritiesSupported, STREAM_PRIORITIES_SUPPORTED)
        HIPCOMM_SAME(TotalConstantMemory, TOTAL_CONSTANT_MEMORY)
        HIPCOMM_SAME(UnifiedAddressing, UNIFIED_ADDRESSING)
        HIPCOMM_SAME(WarpSize, WARP_SIZE)
        HIPCOMM_SAME(MemoryPoolsSupported, MEMORY_POOLS_SUPPORTED)
        HIPCOMM_SAME(VirtualMemoryManagementSupported, VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED)
        HIPCOMM_SAME(HostRegisterSupported, HOST_REGISTER_SUPPORTED)
        HIPCOMM_SAME(ClockInstructionRate, CLOCK_RATE)
        HIPCOMM_SAME(MaxSharedMemoryPerMultiprocessor, MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)
        HIPCOMM_SAME(CanUseStreamWaitValue, CAN_USE_64_BIT_STREAM_MEM_OPS)
        HIPCOMM_SAME(PhysicalMultiProcessorCount, MULTIPROCESSOR_COUNT)
#undef HIPCOMM_SAME
        default:
            return false;
    }
}

struct IntField {
    int hipDeviceProp_tR0600::*field;
    CUdevice_attribute attribute;
};

struct SizeField {
    size_t hipDeviceProp_tR0600::*field;
    CUdevice_attribute attribute;
};

constexpr IntField kIntFields[] = {
    {&hipDeviceProp_tR0600::regsPerBlock, CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK},
    {&hipDeviceProp_tR0600::warpSize, CU_DEVICE_ATTRIBUTE_WARP_SIZE},
    {&hipDeviceProp_tR0600::maxThreadsPerBlock, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK},
    {&hipDeviceProp_tR0600::clockRate, CU_DEVICE_ATTRIBUTE_CLOCK_RATE},
    {&hipDeviceProp_tR0600::major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR},
    {&hipDeviceProp_tR0600::minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR},
    {&hipDeviceProp_tR0600::multiProcessorCount, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT},
    {&hipDeviceProp_tR0600::kernelExecTimeoutEnabled, CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT},
    {&hipDeviceProp_tR0600::integrated, CU_DEVICE_ATTRIBUTE_INTEGRATED},
    {&hipDeviceProp_tR0600::canMapHostMemory, CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY},
    {&hipDeviceProp_tR0600::computeMode, CU_DEVICE_ATTRIBUTE_COMPUTE_MODE},
    {&hipDeviceProp_tR0600::concurrentKernels, CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS},
    {&hipDeviceProp_tR0600::ECCEnabled, CU_DEVICE_ATTRIBUTE_ECC_ENABLED},
    {&hipDeviceProp_tR0600::pciBusID, CU_DEVICE_ATTRIBUTE_PCI_BUS_ID},
    {&hipDeviceProp_tR0600::pciDeviceID, CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID},
    {&hipDeviceProp_tR0600::pciDomainID, CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID},
    {&hipDeviceProp_tR0600::tccDriver, CU_DEVICE_ATTRIBUTE_TCC_DRIVER},
    {&hipDeviceProp_tR0600::asyncEngineCount, CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT},
    {&hipDeviceProp_tR0600::unifiedAddressing, CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING},
    {&hipDeviceProp_tR0600::memoryClockRate, CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE},
    {&hipDeviceProp_tR0600::memoryBusWidth, CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH},
    {&hipDeviceProp_tR0600::l2CacheSize, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE},
    {&hipDeviceProp_tR0600::persistingL2CacheMaxSize, CU_DEVICE_ATTRIBUTE_MAX_PERSISTING_L2_CACHE_SIZE},
    {&hipDeviceProp_tR0600::maxThreadsPerMultiProcessor, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR},
    {&hipDeviceProp_tR0600::streamPrioritiesSupported, CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED},
    {&hipDeviceProp_tR0600::globalL1CacheSupported, CU_DEVICE_ATTRIBUTE_GLOBAL_L1_CACHE_SUPPORTED},
    {&hipDeviceProp_tR0600::localL1CacheSupported, CU_DEVICE_ATTRIBUTE_LOCAL_L1_CACHE_SUPPORTED},
    {&hipDeviceProp_tR0600::regsPerMultiprocessor, CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR},
    {&hipDeviceProp_tR0600::managedMemory, CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY},
    {&hipDeviceProp_tR0600::isMultiGpuBoard, CU_DEVICE_ATTRIBUTE_MULTI_GPU_BOARD},
    {&hipDeviceProp_tR0600::multiGpuBoardGroupID, CU_DEVICE_ATTRIBUTE_MULTI_GPU_BOARD_GROUP_ID},
    {&hipDeviceProp_tR0600::hostNativeAtomicSupported, CU_DEVICE_ATTRIBUTE_HOST_NATIVE_ATOMIC_SUPPORTED},
    {&hipDeviceProp_tR0600::singleToDoublePrecisionPerfRatio,
     CU_DEVICE_ATTRIBUTE_SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO},
    {&hipDeviceProp_tR0600::pageableMemoryAccess, CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS},
    {&hipDeviceProp_tR0600::concurrentManagedAccess, CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS},
    {&hipDeviceProp_tR0600::computePreemptionSupported, CU_DEVICE_ATTRIBUTE_COMPUTE_PREEMPTION_SUPPORTED},
    {&hipDeviceProp_tR0600::canUseHostPointerForRegisteredMem,
     CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM},
    {&hipDeviceProp_tR0600::cooperativeLaunch, CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH},
    {&hipDeviceProp_tR0600::cooperativeMultiDeviceLaunch,
     CU_DEVICE_ATTRIBUTE_COOPERATIVE_MULTI_DEVICE_LAUNCH},
    {&hipDeviceProp_tR0600::pageableMemoryAccessUsesHostPageTables,
     CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES},
    {&hipDeviceProp_tR0600::directManagedMemAccessFromHost,
     CU_DEVICE_ATTRIBUTE_DIRECT_MANAGED_MEM_ACCESS_FROM_HOST},
    {&hipDeviceProp_tR0600::maxBlocksPerMultiProcessor, CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR},
    {&hipDeviceProp_tR0600::accessPolicyMaxWindowSize, CU_DEVICE_ATTRIBUTE_MAX_ACCESS_POLICY_WINDOW_SIZE},
    {&hipDeviceProp_tR0600::hostRegisterSupported, CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED},
    {&hipDeviceProp_tR0600::hostRegisterReadOnlySupported,
     CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED},
    {&hipDeviceProp_tR0600::memoryPoolsSupported, CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED},
    {&hipDeviceProp_tR0600::gpuDirectRDMASupported, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED},
    {&hipDeviceProp_tR0600::ipcEventSupported, CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED},
    {&hipDeviceProp_tR0600::clusterLaunch, CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH},
    {&hipDeviceProp_tR0600::unifiedFunctionPointers, CU_DEVICE_ATTRIBUTE_UNIFIED_FUNCTION_POINTERS},
    {&hipDeviceProp_tR0600::clockInstructionRate, CU_DEVICE_ATTRIBUTE_CLOCK_RATE},
};

constexpr SizeField kSizeFields[] = {
    {&hipDeviceProp_tR0600::sharedMemPerBlock, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK},
    {&hipDeviceProp_tR0600::memPitch, CU_DEVICE_ATTRIBUTE_MAX_PITCH},
    {&hipDeviceProp_tR0600::totalConstMem, CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY},
    {&hipDeviceProp_tR0600::textureAlignment, CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT},
    {&hipDeviceProp_tR0600::texturePitchAlignment, CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT},
    {&hipDeviceProp_tR0600::surfaceAlignment, CU_DEVICE_ATTRIBUTE_SURFACE_ALIGNMENT},
    {&hipDeviceProp_tR0600::sharedMemPerMultiprocessor,
     CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR},
    {&hipDeviceProp_tR0600::maxSharedMemoryPerMultiProcessor,
     CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR},
    {&hipDeviceProp_tR0600::sharedMemPerBlockOptin, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN},
    {&hipDeviceProp_tR0600::reservedSharedMemPerBlock, CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK},
};

constexpr CUdevice_attribute kBlockDims[] = {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X,
                                             CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y,
                                             CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z};
constexpr CUdevice_attribute kGridDims[] = {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X,
                                            CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y,
                                            CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z};

// The fields that are device attributes.
CUresult query_fields(hipDeviceProp_tR0600* properties, int device) {
    CUresult result = CUDA_SUCCESS;
    for (const IntField& entry : kIntFields) {
        if (result == CUDA_SUCCESS) {
            result = query(&(properties->*entry.field), entry.attribute, device);
        }
    }
    for (const SizeField& entry : kSizeFields) {
        int value = 0;
        if (result == CUDA_SUCCESS) {
            result = query(&value, entry.attribute, device);
        }
        properties->*entry.field = static_cast<size_t>(value);
    }
    for (int dim = 0; dim < 3 && result == CUDA_SUCCESS; ++dim) {
        result = query(&properties->maxThreadsDim[dim], kBlockDims[dim], device);
        if (result == CUDA_SUCCESS) {
            result = query(&properties->maxGridSize[dim], kGridDims[dim], device);
        }
    }
    return result;
}

// What every device of compute capability 3.5 and later can do.
hipDeviceArch_t architecture_features() {
    hipDeviceArch_t arch = {};
    arch.hasGlobalInt32Atomics = 1;
    arch.hasGlobalFloatAtomicExch = 1;
    arch.hasSharedInt32Atomics = 1;
    arch.hasSharedFloatAtomicExch = 1;
    arch.hasFloatAtomicAdd = 1;
    arch.hasGlobalInt64Atomics = 1;
    arch.hasSharedInt64Atomics = 1;
    arch.hasDoubles = 1;
    arch.hasWarpVote = 1;
    arch.hasWarpBallot = 1;
    arch.hasWarpShuffle = 1;
    arch.hasFunnelShift = 1;
    arch.hasThreadFenceSystem = 1;
    arch.hasSyncThreadsExt = 1;
    arch.hasSurfaceFuncs = 1;
    arch.has3dGrid = 1;
    arch.hasDynamicParallelism = 1;
    return arch;
}

CUresult fill(hipDeviceProp_tR0600* properties, int device) {
    constexpr int name_size = sizeof properties->name;
    CUresult result = attempt(driver.cuDeviceGetName, properties->name, name_size, device);
    if (result == CUDA_SUCCESS) {
        result = driver.cuDeviceGetUuid_v2(&properties->uuid, device);
    }
    if (result == CUDA_SUCCESS) {
        result = driver.cuDeviceTotalMem_v2(&properties->totalGlobalMem, device);
    }
    if (result == CUDA_SUCCESS) {
        result = query_fields(properties, device);
    }
    if (result != CUDA_SUCCESS) {
        return result;
    }
    properties->deviceOverlap = properties->asyncEngineCount > 0;
    properties->arch = architecture_features();
    std::snprintf(properties->gcnArchName, sizeof properties->gcnArchName, "sm_%d%d", properties->major,
                  properties->minor);
    return CUDA_SUCCESS;
}

}  // namespace

hipError_t hipGetDevicePropertiesR0600(hipDeviceProp_tR0600* properties, int device) {
    if (properties == nullptr) {
        return report(hipErrorInvalidValue);
    }
    *properties = {};
    return report(fill(properties, device));
}

hipError_t hipGetDeviceProperties(hipDeviceProp_tR0600* properties, int device) {
    return hipGetDevicePropertiesR0600(properties, device);
}

hipError_t hipDeviceGetAttribute(int* value, hipDeviceAttribute_t attribute, int device) {
    if (value == nullptr) {
        return report(hipErrorInvalidValue);
    }
    CUdevice_attribute equivalent;
    if (cuda_attribute(attribute, &equivalent)) {
        return report(query(value, equivalent, device));
    }
    CUdevice handle;
    CUresult result = attempt(driver.cuDeviceGet, &handle, device);
    if (result != CUDA_SUCCESS) {
        return report(result);
    }
    switch (attribute) {
        case hipDeviceAttributeWallClockRate:
            *value = kWallClockKilohertz;
            return hipSuccess;
        case hipDeviceAttributeFineGrainSupport:  // device memory is coherent for system-scope atomics
            *value = 1;
            return hipSuccess;
        case hipDeviceAttributeTotalGlobalMem: {
            size_t bytes = 0;
            result = driver.cuDeviceTotalMem_v2(&bytes, handle);
            *value = bytes > INT_MAX ? INT_MAX : static_cast<int>(bytes);  // an int is too small for most
            return report(result);
        }
        case hipDeviceAttributeIsLargeBar:
        case hipDeviceAttributeAsicRevision:
        case hipDeviceAttributeImageSupport:
            *value = 0;
            return hipSuccess;
        default:
            return report(hipErrorInvalidValue);
    }
}

hipError_t hipDeviceGetName(char* name, int length, hipDevice_t device) {
    return call(driver.cuDeviceGetName, name, length, device);
}

hipError_t hipDeviceGetUuid(hipUUID* uuid, hipDevice_t device) {
    return call(driver.cuDeviceGetUuid_v2, uuid, device);
}

hipError_t hipDeviceGetPCIBusId(char* pci_bus_id, int length, int device) {
    return call(driver.cuDeviceGetPCIBusId, pci_bus_id, length, device);
}

hipError_t hipDeviceGetByPCIBusId(int* device, const char* pci_bus_id) {
    return call(driver.cuDeviceGetByPCIBusId, device, pci_bus_id);
}

hipError_t hipDeviceTotalMem(size_t* bytes, hipDevice_t device) {
    return call(driver.cuDeviceTotalMem_v2, bytes, device);
}

