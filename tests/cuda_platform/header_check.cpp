/* Compares hipcomm/platforms/cuda/cuda_driver.h with NVIDIA's cuda.h: it compiles, or names the difference.
 *
 * Which enumerators exist is found by test_platform_cuda_translation.py, which puts them into
 * ENUMERATORS_TO_COMPARE as S(name) S(name) ...
 */
#include <cstddef>
#include <type_traits>

#include "cuda_driver.h"

// cuda.h has macros of these names; keep ours before they are covered up.
constexpr unsigned long ours[] = {
    hipcomm::cuda::CU_MEMHOSTALLOC_PORTABLE,
    hipcomm::cuda::CU_MEMHOSTALLOC_DEVICEMAP,
    hipcomm::cuda::CU_LAUNCH_PARAM_END_AS_INT,
    hipcomm::cuda::CU_LAUNCH_PARAM_BUFFER_POINTER_AS_INT,
    hipcomm::cuda::CU_LAUNCH_PARAM_BUFFER_SIZE_AS_INT,
};

#define __CUDA_API_VERSION_INTERNAL  // declares the functions under the names that the library exports
#include <cuda.h>

static_assert(ours[0] == CU_MEMHOSTALLOC_PORTABLE && ours[0] == CU_MEMHOSTREGISTER_PORTABLE);
static_assert(ours[1] == CU_MEMHOSTALLOC_DEVICEMAP && ours[1] == CU_MEMHOSTREGISTER_DEVICEMAP);
static_assert(ours[2] == CU_LAUNCH_PARAM_END_AS_INT);
static_assert(ours[3] == CU_LAUNCH_PARAM_BUFFER_POINTER_AS_INT);
static_assert(ours[4] == CU_LAUNCH_PARAM_BUFFER_SIZE_AS_INT);

#define S(name) static_assert(static_cast<int>(hipcomm::cuda::name) == static_cast<int>(::name), #name);
ENUMERATORS_TO_COMPARE
#undef S

// Structs that the driver reads.
#define SAME_PLACE(type, field) \
    static_assert(offsetof(hipcomm::cuda::type, field) == offsetof(::type, field), #type "." #field);
static_assert(sizeof(hipcomm::cuda::CUlaunchConfig) == sizeof(::CUlaunchConfig));
static_assert(sizeof(hipcomm::cuda::CUlaunchAttribute) == sizeof(::CUlaunchAttribute));
SAME_PLACE(CUlaunchConfig, gridDimX)
SAME_PLACE(CUlaunchConfig, blockDimX)
SAME_PLACE(CUlaunchConfig, sharedMemBytes)
SAME_PLACE(CUlaunchConfig, hStream)
SAME_PLACE(CUlaunchConfig, attrs)
SAME_PLACE(CUlaunchConfig, numAttrs)
SAME_PLACE(CUlaunchAttribute, id)
SAME_PLACE(CUlaunchAttribute, value)
SAME_PLACE(CUlaunchAttributeValue, programmaticStreamSerializationAllowed)
#undef SAME_PLACE

// HIP constants that the platform hands to the driver as they are.
static_assert(static_cast<int>(hipIpcMemLazyEnablePeerAccess) == CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
static_assert(hipHostMallocWriteCombined == CU_MEMHOSTALLOC_WRITECOMBINED);
static_assert(hipHostRegisterIoMemory == CU_MEMHOSTREGISTER_IOMEMORY);
static_assert(hipHostRegisterReadOnly == CU_MEMHOSTREGISTER_READ_ONLY);
static_assert(static_cast<int>(hipStreamNonBlocking) == CU_STREAM_NON_BLOCKING);
static_assert(static_cast<int>(hipEventBlockingSync) == CU_EVENT_BLOCKING_SYNC);
static_assert(static_cast<int>(hipEventDisableTiming) == CU_EVENT_DISABLE_TIMING);
static_assert(static_cast<int>(hipEventInterprocess) == CU_EVENT_INTERPROCESS);
static_assert(static_cast<int>(hipEventRecordExternal) == CU_EVENT_RECORD_EXTERNAL);
static_assert(static_cast<int>(hipEventWaitExternal) == CU_EVENT_WAIT_EXTERNAL);
static_assert(static_cast<int>(hipDeviceScheduleSpin) == CU_CTX_SCHED_SPIN);
static_assert(static_cast<int>(hipDeviceScheduleYield) == CU_CTX_SCHED_YIELD);
static_assert(static_cast<int>(hipDeviceScheduleBlockingSync) == CU_CTX_SCHED_BLOCKING_SYNC);
static_assert(static_cast<int>(hipDeviceLmemResizeToMax) == CU_CTX_LMEM_RESIZE_TO_MAX);
static_assert(static_cast<int>(hipMemoryTypeHost) == CU_MEMORYTYPE_HOST);
static_assert(static_cast<int>(hipMemoryTypeDevice) == CU_MEMORYTYPE_DEVICE);
static_assert(static_cast<int>(HIP_POINTER_ATTRIBUTE_MEMORY_TYPE) == CU_POINTER_ATTRIBUTE_MEMORY_TYPE);
static_assert(static_cast<int>(HIP_POINTER_ATTRIBUTE_DEVICE_POINTER) == CU_POINTER_ATTRIBUTE_DEVICE_POINTER);
static_assert(static_cast<int>(HIP_POINTER_ATTRIBUTE_HOST_POINTER) == CU_POINTER_ATTRIBUTE_HOST_POINTER);
static_assert(static_cast<int>(HIP_POINTER_ATTRIBUTE_BUFFER_ID) == CU_POINTER_ATTRIBUTE_BUFFER_ID);
static_assert(static_cast<int>(HIP_POINTER_ATTRIBUTE_IS_MANAGED) == CU_POINTER_ATTRIBUTE_IS_MANAGED);
static_assert(static_cast<int>(HIP_POINTER_ATTRIBUTE_DEVICE_ORDINAL) == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL);
static_assert(static_cast<int>(HIP_POINTER_ATTRIBUTE_RANGE_START_ADDR) ==
              CU_POINTER_ATTRIBUTE_RANGE_START_ADDR);
static_assert(static_cast<int>(HIP_POINTER_ATTRIBUTE_RANGE_SIZE) == CU_POINTER_ATTRIBUTE_RANGE_SIZE);
static_assert(static_cast<int>(HIP_POINTER_ATTRIBUTE_MAPPED) == CU_POINTER_ATTRIBUTE_MAPPED);
static_assert(static_cast<int>(HIP_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK) ==
              CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
static_assert(static_cast<int>(HIP_FUNC_ATTRIBUTE_NUM_REGS) == CU_FUNC_ATTRIBUTE_NUM_REGS);
static_assert(static_cast<int>(hipFuncAttributeMaxDynamicSharedMemorySize) ==
              CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
static_assert(static_cast<int>(HIP_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT) ==
              CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT);
static_assert(static_cast<int>(hipStreamCaptureModeThreadLocal) == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
static_assert(static_cast<int>(hipStreamCaptureModeRelaxed) == CU_STREAM_CAPTURE_MODE_RELAXED);
static_assert(static_cast<int>(hipStreamCaptureStatusActive) == CU_STREAM_CAPTURE_STATUS_ACTIVE);
static_assert(static_cast<int>(hipStreamCaptureStatusInvalidated) == CU_STREAM_CAPTURE_STATUS_INVALIDATED);
static_assert(static_cast<int>(hipGraphInstantiateFlagAutoFreeOnLaunch) ==
              CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH);
static_assert(static_cast<int>(hipGraphInstantiateFlagUpload) == CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD);
static_assert(static_cast<int>(hipGraphInstantiateFlagUseNodePriority) ==
              CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY);
static_assert(static_cast<int>(hipGraphNodeTypeEventRecord) == CU_GRAPH_NODE_TYPE_EVENT_RECORD);
static_assert(static_cast<int>(hipDevP2PAttrPerformanceRank) + 1 == CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK);
static_assert(static_cast<int>(hipDevP2PAttrHipArrayAccessSupported) + 1 ==
              CU_DEVICE_P2P_ATTRIBUTE_CUDA_ARRAY_ACCESS_SUPPORTED);

// Two argument types travel alike where both are structs, or neither is, and their sizes agree.  A pointer
// and a 64-bit integer do (CUdeviceptr), a pointer and an int do not.
template <class A, class B>
constexpr bool alike() {
    return sizeof(A) == sizeof(B) && std::is_class_v<A> == std::is_class_v<B> &&
           std::is_floating_point_v<A> == std::is_floating_point_v<B>;
}

template <class Theirs, class Ours>
struct SameShape : std::false_type {};

template <class R, class... A, class S, class... B>
struct SameShape<R(A...), S(B...)> {
    template <bool equal_count, class Dummy = void>
    struct Each : std::false_type {};
    template <class Dummy>
    struct Each<true, Dummy> : std::bool_constant<alike<R, S>() && (... && alike<A, B>())> {};
    static constexpr bool value = Each<sizeof...(A) == sizeof...(B)>::value;
};

namespace hipcomm::cuda {
#define COMPARE(name, parameters) \
    static_assert(SameShape<decltype(::name), CUresult parameters>::value, #name);
HIPCOMM_CUDA_FUNCTIONS(COMPARE)
HIPCOMM_CUDA_OPTIONAL_FUNCTIONS(COMPARE)
#undef COMPARE
}  // namespace hipcomm::cuda
