/* The part of the CUDA driver's binary interface that this platform calls, declared here so that it
 * builds without a CUDA toolkit.  tests/test_platform_cuda_translation.py compares every value, size and
 * signature with a real cuda.h where there is one.
 *
 * A HIP handle of this platform *is* the CUDA handle and a pointer is a pointer, so the types are HIP's:
 * streams, events, modules, graphs and IPC handles pass through without a look-up; functions carry a mark
 * (kernel.h).  A CUdeviceptr, an unsigned 64-bit integer in cuda.h, is written void* here: both travel in the same register.
 */
#ifndef HIPCOMM_PLATFORMS_CUDA_CUDA_DRIVER_H
#define HIPCOMM_PLATFORMS_CUDA_CUDA_DRIVER_H

#include "hip_functions.h"

namespace hipcomm::cuda {

static_assert(sizeof(void*) == 8, "CUdeviceptr is 64 bits wide");

using CUdevice = int;
using CUdeviceptr = void*;
using CUcontext = struct CUctx_st*;
using CUstream = hipStream_t;
using CUevent = hipEvent_t;
using CUmodule = hipModule_t;
using CUfunction = struct CUfunc_st*;
using CUgraph = hipGraph_t;
using CUgraphNode = hipGraphNode_t;
using CUgraphExec = hipGraphExec_t;
using CUgraphNodeType = hipGraphNodeType;
using CUipcMemHandle = hipIpcMemHandle_t;
using CUuuid = hipUUID;
using CUhostFn = hipHostFn_t;
using CUstreamCaptureMode = hipStreamCaptureMode;
using CUstreamCaptureStatus = hipStreamCaptureStatus;
using CUfunction_attribute = int;  // hipFunction_attribute and hipFuncAttribute have CUDA's numbers
using CUpointer_attribute = int;   // so has hipPointer_attribute
using CUdevice_P2PAttribute = int;

enum CUresult : int {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_NOT_INITIALIZED = 3,
    CUDA_ERROR_DEINITIALIZED = 4,
    CUDA_ERROR_PROFILER_DISABLED = 5,
    CUDA_ERROR_PROFILER_NOT_INITIALIZED = 6,
    CUDA_ERROR_PROFILER_ALREADY_STARTED = 7,
    CUDA_ERROR_PROFILER_ALREADY_STOPPED = 8,
    CUDA_ERROR_STUB_LIBRARY = 34,
    CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER = 36,
    CUDA_ERROR_DEVICE_UNAVAILABLE = 46,
    CUDA_ERROR_NO_DEVICE = 100,
    CUDA_ERROR_INVALID_DEVICE = 101,
    CUDA_ERROR_DEVICE_NOT_LICENSED = 102,
    CUDA_ERROR_INVALID_IMAGE = 200,
    CUDA_ERROR_INVALID_CONTEXT = 201,
    CUDA_ERROR_CONTEXT_ALREADY_CURRENT = 202,
    CUDA_ERROR_MAP_FAILED = 205,
    CUDA_ERROR_UNMAP_FAILED = 206,
    CUDA_ERROR_ARRAY_IS_MAPPED = 207,
    CUDA_ERROR_ALREADY_MAPPED = 208,
    CUDA_ERROR_NO_BINARY_FOR_GPU = 209,
    CUDA_ERROR_ALREADY_ACQUIRED = 210,
    CUDA_ERROR_NOT_MAPPED = 211,
    CUDA_ERROR_NOT_MAPPED_AS_ARRAY = 212,
    CUDA_ERROR_NOT_MAPPED_AS_POINTER = 213,
    CUDA_ERROR_ECC_UNCORRECTABLE = 214,
    CUDA_ERROR_UNSUPPORTED_LIMIT = 215,
    CUDA_ERROR_CONTEXT_ALREADY_IN_USE = 216,
    CUDA_ERROR_PEER_ACCESS_UNSUPPORTED = 217,
    CUDA_ERROR_INVALID_PTX = 218,
    CUDA_ERROR_INVALID_GRAPHICS_CONTEXT = 219,
    CUDA_ERROR_NVLINK_UNCORRECTABLE = 220,
    CUDA_ERROR_JIT_COMPILER_NOT_FOUND = 221,
    CUDA_ERROR_UNSUPPORTED_PTX_VERSION = 222,
    CUDA_ERROR_JIT_COMPILATION_DISABLED = 223,
    CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY = 224,
    CUDA_ERROR_UNSUPPORTED_DEVSIDE_SYNC = 225,
    CUDA_ERROR_CONTAINED = 226,
    CUDA_ERROR_INVALID_SOURCE = 300,
    CUDA_ERROR_FILE_NOT_FOUND = 301,
    CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND = 302,
    CUDA_ERROR_SHARED_OBJECT_INIT_FAILED = 303,
    CUDA_ERROR_OPERATING_SYSTEM = 304,
    CUDA_ERROR_INVALID_HANDLE = 400,
    CUDA_ERROR_ILLEGAL_STATE = 401,
    CUDA_ERROR_LOSSY_QUERY = 402,
    CUDA_ERROR_NOT_FOUND = 500,
    CUDA_ERROR_NOT_READY = 600,
    CUDA_ERROR_ILLEGAL_ADDRESS = 700,
    CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES = 701,
    CUDA_ERROR_LAUNCH_TIMEOUT = 702,
    CUDA_ERROR_LAUNCH_INCOMPATIBLE_TEXTURING = 703,
    CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED = 704,
    CUDA_ERROR_PEER_ACCESS_NOT_ENABLED = 705,
    CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE = 708,
    CUDA_ERROR_CONTEXT_IS_DESTROYED = 709,
    CUDA_ERROR_ASSERT = 710,
    CUDA_ERROR_TOO_MANY_PEERS = 711,
    CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED = 712,
    CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED = 713,
    CUDA_ERROR_HARDWARE_STACK_ERROR = 714,
    CUDA_ERROR_ILLEGAL_INSTRUCTION = 715,
    CUDA_ERROR_MISALIGNED_ADDRESS = 716,
    CUDA_ERROR_INVALID_ADDRESS_SPACE = 717,
    CUDA_ERROR_INVALID_PC = 718,
    CUDA_ERROR_LAUNCH_FAILED = 719,
    CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE = 720,
    CUDA_ERROR_TENSOR_MEMORY_LEAK = 721,
    CUDA_ERROR_NOT_PERMITTED = 800,
    CUDA_ERROR_NOT_SUPPORTED = 801,
    CUDA_ERROR_SYSTEM_NOT_READY = 802,
    CUDA_ERROR_SYSTEM_DRIVER_MISMATCH = 803,
    CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE = 804,
    CUDA_ERROR_MPS_CONNECTION_FAILED = 805,
    CUDA_ERROR_MPS_RPC_FAILURE = 806,
    CUDA_ERROR_MPS_SERVER_NOT_READY = 807,
    CUDA_ERROR_MPS_MAX_CLIENTS_REACHED = 808,
    CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED = 809,
    CUDA_ERROR_MPS_CLIENT_TERMINATED = 810,
    CUDA_ERROR_CDP_NOT_SUPPORTED = 811,
    CUDA_ERROR_CDP_VERSION_MISMATCH = 812,
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900,
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901,
    CUDA_ERROR_STREAM_CAPTURE_MERGE = 902,
    CUDA_ERROR_STREAM_CAPTURE_UNMATCHED = 903,
    CUDA_ERROR_STREAM_CAPTURE_UNJOINED = 904,
    CUDA_ERROR_STREAM_CAPTURE_ISOLATION = 905,
    CUDA_ERROR_STREAM_CAPTURE_IMPLICIT = 906,
    CUDA_ERROR_CAPTURED_EVENT = 907,
    CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD = 908,
    CUDA_ERROR_TIMEOUT = 909,
    CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE = 910,
    CUDA_ERROR_EXTERNAL_DEVICE = 911,
    CUDA_ERROR_INVALID_CLUSTER_SIZE = 912,
    CUDA_ERROR_FUNCTION_NOT_LOADED = 913,
    CUDA_ERROR_INVALID_RESOURCE_TYPE = 914,
    CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION = 915,
    CUDA_ERROR_KEY_ROTATION = 916,
    CUDA_ERROR_UNKNOWN = 999,
};

enum CUdevice_attribute : int {
    CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK = 1,
    CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X = 2,
    CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y = 3,
    CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z = 4,
    CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X = 5,
    CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y = 6,
    CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z = 7,
    CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK = 8,
    CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY = 9,
    CU_DEVICE_ATTRIBUTE_WARP_SIZE = 10,
    CU_DEVICE_ATTRIBUTE_MAX_PITCH = 11,
    CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK = 12,
    CU_DEVICE_ATTRIBUTE_CLOCK_RATE = 13,
    CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT = 14,
    CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
    CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT = 17,
    CU_DEVICE_ATTRIBUTE_INTEGRATED = 18,
    CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY = 19,
    CU_DEVICE_ATTRIBUTE_COMPUTE_MODE = 20,
    CU_DEVICE_ATTRIBUTE_SURFACE_ALIGNMENT = 30,
    CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS = 31,
    CU_DEVICE_ATTRIBUTE_ECC_ENABLED = 32,
    CU_DEVICE_ATTRIBUTE_PCI_BUS_ID = 33,
    CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID = 34,
    CU_DEVICE_ATTRIBUTE_TCC_DRIVER = 35,
    CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE = 36,
    CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH = 37,
    CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE = 38,
    CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR = 39,
    CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT = 40,
    CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING = 41,
    CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID = 50,
    CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT = 51,
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76,
    CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED = 78,
    CU_DEVICE_ATTRIBUTE_GLOBAL_L1_CACHE_SUPPORTED = 79,
    CU_DEVICE_ATTRIBUTE_LOCAL_L1_CACHE_SUPPORTED = 80,
    CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR = 81,
    CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR = 82,
    CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY = 83,
    CU_DEVICE_ATTRIBUTE_MULTI_GPU_BOARD = 84,
    CU_DEVICE_ATTRIBUTE_MULTI_GPU_BOARD_GROUP_ID = 85,
    CU_DEVICE_ATTRIBUTE_HOST_NATIVE_ATOMIC_SUPPORTED = 86,
    CU_DEVICE_ATTRIBUTE_SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO = 87,
    CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS = 88,
    CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS = 89,
    CU_DEVICE_ATTRIBUTE_COMPUTE_PREEMPTION_SUPPORTED = 90,
    CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM = 91,
    CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH = 95,
    CU_DEVICE_ATTRIBUTE_COOPERATIVE_MULTI_DEVICE_LAUNCH = 96,
    CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97,
    CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED = 99,
    CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES = 100,
    CU_DEVICE_ATTRIBUTE_DIRECT_MANAGED_MEM_ACCESS_FROM_HOST = 101,
    CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED = 102,
    CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR = 106,
    CU_DEVICE_ATTRIBUTE_MAX_PERSISTING_L2_CACHE_SIZE = 108,
    CU_DEVICE_ATTRIBUTE_MAX_ACCESS_POLICY_WINDOW_SIZE = 109,
    CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK = 111,
    CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED = 113,
    CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED = 115,
    CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED = 116,
    CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH = 120,
    CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS = 122,
    CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED = 125,
    CU_DEVICE_ATTRIBUTE_UNIFIED_FUNCTION_POINTERS = 129,
};

enum CUjit_option : int {
    CU_JIT_ERROR_LOG_BUFFER = 5,
    CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES = 6,
};

// cuMemHostAlloc and cuMemHostRegister share these two.
constexpr unsigned CU_MEMHOSTALLOC_PORTABLE = 0x1;
constexpr unsigned CU_MEMHOSTALLOC_DEVICEMAP = 0x2;

// The end mark of cuLaunchKernel's `extra` differs from HIP's, which is 3.
constexpr unsigned long CU_LAUNCH_PARAM_END_AS_INT = 0;
constexpr unsigned long CU_LAUNCH_PARAM_BUFFER_POINTER_AS_INT = 1;
constexpr unsigned long CU_LAUNCH_PARAM_BUFFER_SIZE_AS_INT = 2;

// How a kernel is launched, and attributes of that; of the attribute's union of 64 bytes, what is used here.
enum CUlaunchAttributeID : int {
    CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION = 6,
};
union CUlaunchAttributeValue {
    char pad[64];
    int programmaticStreamSerializationAllowed;
};
struct CUlaunchAttribute {
    CUlaunchAttributeID id;
    char pad[8 - sizeof(CUlaunchAttributeID)];
    CUlaunchAttributeValue value;
};
struct CUlaunchConfig {
    unsigned gridDimX, gridDimY, gridDimZ;
    unsigned blockDimX, blockDimY, blockDimZ;
    unsigned sharedMemBytes;
    CUstream hStream;
    CUlaunchAttribute* attrs;
    unsigned numAttrs;
};

using CUstreamCallback = void (*)(CUstream stream, CUresult status, void* user_data);

}  // namespace hipcomm::cuda

// Every driver function that the platform calls, F(name, parameters).  The names carry the version suffixes
// that cuda.h adds: a plain cuMemAlloc is the 32-bit interface of 2007.  None is newer than CUDA 11.4.
#define HIPCOMM_CUDA_FUNCTIONS(F)                                                                       \
    F(cuInit, (unsigned flags))                                                                         \
    F(cuDriverGetVersion, (int* version))                                                               \
    F(cuDeviceGet, (CUdevice* device, int ordinal))                                                     \
    F(cuDeviceGetCount, (int* count))                                                                   \
    F(cuDeviceGetName, (char* name, int length, CUdevice device))                                       \
    F(cuDeviceGetUuid_v2, (CUuuid* uuid, CUdevice device))                                              \
    F(cuDeviceTotalMem_v2, (size_t* bytes, CUdevice device))                                            \
    F(cuDeviceGetAttribute, (int* value, CUdevice_attribute attribute, CUdevice device))                \
    F(cuDeviceGetPCIBusId, (char* pci_bus_id, int length, CUdevice device))                             \
    F(cuDeviceGetByPCIBusId, (CUdevice* device, const char* pci_bus_id))                                \
    F(cuDeviceCanAccessPeer, (int* can_access, CUdevice device, CUdevice peer))                         \
    F(cuDeviceGetP2PAttribute,                                                                          \
      (int* value, CUdevice_P2PAttribute attribute, CUdevice source, CUdevice destination))             \
    F(cuDevicePrimaryCtxRetain, (CUcontext* context, CUdevice device))                                  \
    F(cuDevicePrimaryCtxRelease_v2, (CUdevice device))                                                  \
    F(cuDevicePrimaryCtxReset_v2, (CUdevice device))                                                    \
    F(cuDevicePrimaryCtxSetFlags_v2, (CUdevice device, unsigned flags))                                 \
    F(cuCtxGetCurrent, (CUcontext* context))                                                            \
    F(cuCtxSetCurrent, (CUcontext context))                                                             \
    F(cuCtxGetDevice, (CUdevice* device))                                                               \
    F(cuCtxSynchronize, ())                                                                             \
    F(cuCtxEnablePeerAccess, (CUcontext peer, unsigned flags))                                          \
    F(cuCtxDisablePeerAccess, (CUcontext peer))                                                         \
    F(cuCtxGetStreamPriorityRange, (int* least, int* greatest))                                         \
    F(cuMemAlloc_v2, (CUdeviceptr* pointer, size_t bytes))                                              \
    F(cuMemAllocAsync, (CUdeviceptr* pointer, size_t bytes, CUstream stream))                           \
    F(cuMemFree_v2, (CUdeviceptr pointer))                                                              \
    F(cuMemFreeAsync, (CUdeviceptr pointer, CUstream stream))                                           \
    F(cuMemGetInfo_v2, (size_t* free_bytes, size_t* total_bytes))                                       \
    F(cuMemGetAddressRange_v2, (CUdeviceptr* base, size_t* bytes, CUdeviceptr pointer))                 \
    F(cuPointerGetAttributes,                                                                           \
      (unsigned count, CUpointer_attribute* attributes, void** data, CUdeviceptr pointer))              \
    F(cuMemHostAlloc, (void** pointer, size_t bytes, unsigned flags))                                   \
    F(cuMemFreeHost, (void* pointer))                                                                   \
    F(cuMemHostGetDevicePointer_v2, (CUdeviceptr* device_pointer, void* host_pointer, unsigned flags))  \
    F(cuMemHostGetFlags, (unsigned* flags, void* pointer))                                              \
    F(cuMemHostRegister_v2, (void* pointer, size_t bytes, unsigned flags))                              \
    F(cuMemHostUnregister, (void* pointer))                                                             \
    F(cuMemcpy, (CUdeviceptr dst, CUdeviceptr src, size_t bytes))                                       \
    F(cuMemcpyAsync, (CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUstream stream))                 \
    F(cuMemcpyPeer,                                                                                     \
      (CUdeviceptr dst, CUcontext dst_context, CUdeviceptr src, CUcontext src_context, size_t bytes))   \
    F(cuMemcpyHtoD_v2, (CUdeviceptr dst, const void* src, size_t bytes))                                \
    F(cuMemcpyDtoH_v2, (void* dst, CUdeviceptr src, size_t bytes))                                      \
    F(cuMemcpyDtoD_v2, (CUdeviceptr dst, CUdeviceptr src, size_t bytes))                                \
    F(cuMemsetD8_v2, (CUdeviceptr dst, unsigned char value, size_t count))                              \
    F(cuMemsetD16_v2, (CUdeviceptr dst, unsigned short value, size_t count))                            \
    F(cuMemsetD32_v2, (CUdeviceptr dst, unsigned value, size_t count))                                  \
    F(cuMemsetD8Async, (CUdeviceptr dst, unsigned char value, size_t count, CUstream stream))           \
    F(cuMemsetD32Async, (CUdeviceptr dst, unsigned value, size_t count, CUstream stream))               \
    F(cuIpcGetMemHandle, (CUipcMemHandle * handle, CUdeviceptr pointer))                                \
    F(cuIpcOpenMemHandle_v2, (CUdeviceptr* pointer, CUipcMemHandle handle, unsigned flags))             \
    F(cuIpcCloseMemHandle, (CUdeviceptr pointer))                                                       \
    F(cuModuleLoadDataEx, (CUmodule* module, const void* image, unsigned option_count,                  \
                           CUjit_option* options, void** option_values))                                \
    F(cuModuleUnload, (CUmodule module))                                                                \
    F(cuModuleGetFunction, (CUfunction* function, CUmodule module, const char* name))                   \
    F(cuModuleGetGlobal_v2, (CUdeviceptr* pointer, size_t* bytes, CUmodule module, const char* name))   \
    F(cuFuncGetAttribute, (int* value, CUfunction_attribute attribute, CUfunction function))            \
    F(cuFuncSetAttribute, (CUfunction function, CUfunction_attribute attribute, int value))             \
    F(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags,                                             \
      (int* blocks, CUfunction function, int block_size, size_t shared_bytes, unsigned flags))          \
    F(cuLaunchKernel, (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,          \
                       unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,     \
                       CUstream stream, void** kernel_params, void** extra))                            \
    F(cuLaunchCooperativeKernel, (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, \
                                  unsigned block_x, unsigned block_y, unsigned block_z,                 \
                                  unsigned shared_bytes, CUstream stream, void** kernel_params))        \
    F(cuLaunchHostFunc, (CUstream stream, CUhostFn function, void* user_data))                          \
    F(cuStreamCreate, (CUstream* stream, unsigned flags))                                               \
    F(cuStreamCreateWithPriority, (CUstream* stream, unsigned flags, int priority))                     \
    F(cuStreamDestroy_v2, (CUstream stream))                                                            \
    F(cuStreamSynchronize, (CUstream stream))                                                           \
    F(cuStreamQuery, (CUstream stream))                                                                 \
    F(cuStreamWaitEvent, (CUstream stream, CUevent event, unsigned flags))                              \
    F(cuStreamGetFlags, (CUstream stream, unsigned* flags))                                             \
    F(cuStreamGetPriority, (CUstream stream, int* priority))                                            \
    F(cuStreamGetCtx, (CUstream stream, CUcontext* context))                                            \
    F(cuStreamAddCallback, (CUstream stream, CUstreamCallback callback, void* user_data, unsigned flags)) \
    F(cuStreamBeginCapture_v2, (CUstream stream, CUstreamCaptureMode mode))                             \
    F(cuStreamEndCapture, (CUstream stream, CUgraph* graph))                                            \
    F(cuStreamIsCapturing, (CUstream stream, CUstreamCaptureStatus* status))                            \
    F(cuStreamGetCaptureInfo_v2,                                                                        \
      (CUstream stream, CUstreamCaptureStatus* status, unsigned long long* id, CUgraph* graph,          \
       const CUgraphNode** dependencies, size_t* dependency_count))                                     \
    F(cuThreadExchangeStreamCaptureMode, (CUstreamCaptureMode * mode))                                  \
    F(cuEventCreate, (CUevent* event, unsigned flags))                                                  \
    F(cuEventDestroy_v2, (CUevent event))                                                               \
    F(cuEventRecord, (CUevent event, CUstream stream))                                                  \
    F(cuEventRecordWithFlags, (CUevent event, CUstream stream, unsigned flags))                         \
    F(cuEventSynchronize, (CUevent event))                                                              \
    F(cuEventQuery, (CUevent event))                                                                    \
    F(cuEventElapsedTime, (float* milliseconds, CUevent start, CUevent end))                            \
    F(cuGraphDestroy, (CUgraph graph))                                                                  \
    F(cuGraphGetNodes, (CUgraph graph, CUgraphNode* nodes, size_t* count))                              \
    F(cuGraphNodeGetType, (CUgraphNode node, CUgraphNodeType* type))                                    \
    F(cuGraphInstantiateWithFlags, (CUgraphExec* exec, CUgraph graph, unsigned long long flags))        \
    F(cuGraphUpload, (CUgraphExec exec, CUstream stream))                                               \
    F(cuGraphLaunch, (CUgraphExec exec, CUstream stream))                                               \
    F(cuGraphExecDestroy, (CUgraphExec exec))

// Used where the driver has them, done without where it is older.
#define HIPCOMM_CUDA_OPTIONAL_FUNCTIONS(F)                                                              \
    F(cuFuncLoad, (CUfunction function)) /* CUDA 12.4 */                                                \
    F(cuLaunchKernelEx, (const CUlaunchConfig* config, CUfunction function, void** kernel_params,       \
                         void** extra)) /* CUDA 11.8 */

#endif  // HIPCOMM_PLATFORMS_CUDA_CUDA_DRIVER_H
