// CUDA's errors as HIP's, their names and sentences, and the last error of each thread.
#include "error.h"

#include <cstdio>

#include "hip_error_table.h"

namespace hipcomm::cuda {

namespace {

thread_local hipError_t last_error = hipSuccess;

struct Explanation {
    hipError_t error = hipSuccess;  // hipSuccess: there is none
    char text[2048] = "";
};

thread_local Explanation explanation;

const char* name_of(hipError_t error) {
    switch (error) {
#define HIPCOMM_NAME(code, sentence) \
    case code:                       \
        return #code;
        HIPCOMM_HIP_ERRORS(HIPCOMM_NAME)
#undef HIPCOMM_NAME
    }
    return nullptr;
}

const char* sentence_of(hipError_t error) {
    switch (error) {
#define HIPCOMM_SENTENCE(code, sentence) \
    case code:                           \
        return sentence;
        HIPCOMM_HIP_ERRORS(HIPCOMM_SENTENCE)
#undef HIPCOMM_SENTENCE
    }
    return nullptr;
}

}  // namespace

// Most codes have HIP's number, for HIP took CUDA's.  The others go to the code that a HIP program handles
// in the same way.  The compiler refuses a switch that leaves out one of CUresult's names.
hipError_t translate(CUresult result) {
    switch (result) {
        case CUDA_SUCCESS:
            return hipSuccess;
        case CUDA_ERROR_INVALID_VALUE:
            return hipErrorInvalidValue;
        case CUDA_ERROR_OUT_OF_MEMORY:
            return hipErrorOutOfMemory;
        case CUDA_ERROR_NOT_INITIALIZED:
            return hipErrorNotInitialized;
        case CUDA_ERROR_DEINITIALIZED:
            return hipErrorDeinitialized;

        case CUDA_ERROR_NO_DEVICE:
        case CUDA_ERROR_STUB_LIBRARY:  // the toolkit's stand-in for a driver
            return hipErrorNoDevice;
        case CUDA_ERROR_INVALID_DEVICE:
        case CUDA_ERROR_DEVICE_UNAVAILABLE:
        case CUDA_ERROR_DEVICE_NOT_LICENSED:
            return hipErrorInvalidDevice;
        case CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER:
        case CUDA_ERROR_SYSTEM_DRIVER_MISMATCH:
        case CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE:
            return hipErrorInsufficientDriver;

        case CUDA_ERROR_INVALID_IMAGE:
            return hipErrorInvalidImage;
        case CUDA_ERROR_INVALID_PTX:
            return hipErrorInvalidKernelFile;
        case CUDA_ERROR_NO_BINARY_FOR_GPU:
        case CUDA_ERROR_UNSUPPORTED_PTX_VERSION:
            return hipErrorNoBinaryForGpu;
        case CUDA_ERROR_INVALID_SOURCE:
            return hipErrorInvalidSource;
        case CUDA_ERROR_FILE_NOT_FOUND:
            return hipErrorFileNotFound;
        case CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND:
            return hipErrorSharedObjectSymbolNotFound;
        case CUDA_ERROR_SHARED_OBJECT_INIT_FAILED:
        case CUDA_ERROR_JIT_COMPILER_NOT_FOUND:  // libnvidia-ptxjitcompiler is missing
            return hipErrorSharedObjectInitFailed;

        case CUDA_ERROR_INVALID_CONTEXT:
            return hipErrorInvalidContext;
        case CUDA_ERROR_CONTEXT_ALREADY_CURRENT:
            return hipErrorContextAlreadyCurrent;
        case CUDA_ERROR_CONTEXT_ALREADY_IN_USE:
            return hipErrorContextAlreadyInUse;
        case CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE:
            return hipErrorSetOnActiveProcess;
        case CUDA_ERROR_CONTEXT_IS_DESTROYED:
            return hipErrorContextIsDestroyed;
        case CUDA_ERROR_INVALID_GRAPHICS_CONTEXT:
            return hipErrorInvalidGraphicsContext;

        case CUDA_ERROR_MAP_FAILED:
            return hipErrorMapFailed;
        case CUDA_ERROR_UNMAP_FAILED:
            return hipErrorUnmapFailed;
        case CUDA_ERROR_ARRAY_IS_MAPPED:
            return hipErrorArrayIsMapped;
        case CUDA_ERROR_ALREADY_MAPPED:
            return hipErrorAlreadyMapped;
        case CUDA_ERROR_ALREADY_ACQUIRED:
            return hipErrorAlreadyAcquired;
        case CUDA_ERROR_NOT_MAPPED:
            return hipErrorNotMapped;
        case CUDA_ERROR_NOT_MAPPED_AS_ARRAY:
            return hipErrorNotMappedAsArray;
        case CUDA_ERROR_NOT_MAPPED_AS_POINTER:
            return hipErrorNotMappedAsPointer;
        case CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED:
            return hipErrorHostMemoryAlreadyRegistered;
        case CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED:
            return hipErrorHostMemoryNotRegistered;
        case CUDA_ERROR_UNSUPPORTED_LIMIT:
            return hipErrorUnsupportedLimit;

        case CUDA_ERROR_PEER_ACCESS_UNSUPPORTED:
        case CUDA_ERROR_TOO_MANY_PEERS:
            return hipErrorPeerAccessUnsupported;
        case CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED:
            return hipErrorPeerAccessAlreadyEnabled;
        case CUDA_ERROR_PEER_ACCESS_NOT_ENABLED:
            return hipErrorPeerAccessNotEnabled;

        case CUDA_ERROR_OPERATING_SYSTEM:
            return hipErrorOperatingSystem;
        case CUDA_ERROR_INVALID_HANDLE:
            return hipErrorInvalidHandle;
        case CUDA_ERROR_ILLEGAL_STATE:
            return hipErrorIllegalState;
        case CUDA_ERROR_NOT_FOUND:
            return hipErrorNotFound;
        case CUDA_ERROR_NOT_READY:
            return hipErrorNotReady;

        case CUDA_ERROR_ECC_UNCORRECTABLE:
        case CUDA_ERROR_NVLINK_UNCORRECTABLE:
            return hipErrorECCNotCorrectable;
        case CUDA_ERROR_ILLEGAL_ADDRESS:
        case CUDA_ERROR_MISALIGNED_ADDRESS:
        case CUDA_ERROR_INVALID_ADDRESS_SPACE:
            return hipErrorIllegalAddress;
        case CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES:
        case CUDA_ERROR_LAUNCH_INCOMPATIBLE_TEXTURING:
            return hipErrorLaunchOutOfResources;
        case CUDA_ERROR_LAUNCH_TIMEOUT:
        case CUDA_ERROR_TIMEOUT:
            return hipErrorLaunchTimeOut;
        case CUDA_ERROR_ASSERT:
            return hipErrorAssert;
        case CUDA_ERROR_LAUNCH_FAILED:
        case CUDA_ERROR_HARDWARE_STACK_ERROR:
        case CUDA_ERROR_ILLEGAL_INSTRUCTION:
        case CUDA_ERROR_INVALID_PC:
        case CUDA_ERROR_CONTAINED:
        case CUDA_ERROR_TENSOR_MEMORY_LEAK:
        case CUDA_ERROR_EXTERNAL_DEVICE:
            return hipErrorLaunchFailure;
        case CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE:
            return hipErrorCooperativeLaunchTooLarge;
        case CUDA_ERROR_INVALID_CLUSTER_SIZE:
        case CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION:
            return hipErrorInvalidConfiguration;
        case CUDA_ERROR_INVALID_RESOURCE_TYPE:
            return hipErrorInvalidValue;
        case CUDA_ERROR_FUNCTION_NOT_LOADED:
            return hipErrorInvalidDeviceFunction;

        case CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED:
            return hipErrorStreamCaptureUnsupported;
        case CUDA_ERROR_STREAM_CAPTURE_INVALIDATED:
            return hipErrorStreamCaptureInvalidated;
        case CUDA_ERROR_STREAM_CAPTURE_MERGE:
            return hipErrorStreamCaptureMerge;
        case CUDA_ERROR_STREAM_CAPTURE_UNMATCHED:
            return hipErrorStreamCaptureUnmatched;
        case CUDA_ERROR_STREAM_CAPTURE_UNJOINED:
            return hipErrorStreamCaptureUnjoined;
        case CUDA_ERROR_STREAM_CAPTURE_ISOLATION:
            return hipErrorStreamCaptureIsolation;
        case CUDA_ERROR_STREAM_CAPTURE_IMPLICIT:
            return hipErrorStreamCaptureImplicit;
        case CUDA_ERROR_CAPTURED_EVENT:
            return hipErrorCapturedEvent;
        case CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD:
            return hipErrorStreamCaptureWrongThread;
        case CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE:
            return hipErrorGraphExecUpdateFailure;

        case CUDA_ERROR_NOT_SUPPORTED:
        case CUDA_ERROR_NOT_PERMITTED:
        case CUDA_ERROR_JIT_COMPILATION_DISABLED:
        case CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY:
        case CUDA_ERROR_UNSUPPORTED_DEVSIDE_SYNC:
        case CUDA_ERROR_CDP_NOT_SUPPORTED:
        case CUDA_ERROR_CDP_VERSION_MISMATCH:
        case CUDA_ERROR_LOSSY_QUERY:
            return hipErrorNotSupported;

        case CUDA_ERROR_SYSTEM_NOT_READY:
        case CUDA_ERROR_MPS_CONNECTION_FAILED:
        case CUDA_ERROR_MPS_RPC_FAILURE:
        case CUDA_ERROR_MPS_SERVER_NOT_READY:
        case CUDA_ERROR_MPS_MAX_CLIENTS_REACHED:
        case CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED:
        case CUDA_ERROR_MPS_CLIENT_TERMINATED:
            return hipErrorRuntimeOther;

        case CUDA_ERROR_PROFILER_DISABLED:
        case CUDA_ERROR_PROFILER_NOT_INITIALIZED:
        case CUDA_ERROR_PROFILER_ALREADY_STARTED:
        case CUDA_ERROR_PROFILER_ALREADY_STOPPED:
        case CUDA_ERROR_KEY_ROTATION:
        case CUDA_ERROR_UNKNOWN:
            return hipErrorUnknown;
    }
    return hipErrorUnknown;  // a code of a newer driver
}

hipError_t report(hipError_t error) {
    if (error != hipSuccess && error != hipErrorNotReady) {
        last_error = error;
    }
    return error;
}

hipError_t report(CUresult result) { return report(translate(result)); }

void explain(hipError_t error, const char* reason) {
    const char* sentence = sentence_of(error);
    explanation.error = error;
    std::snprintf(explanation.text, sizeof explanation.text, "%s: %s", sentence != nullptr ? sentence : "",
                  reason);
}

}  // namespace hipcomm::cuda

using namespace hipcomm::cuda;

hipError_t hipGetLastError() {
    hipError_t error = last_error;
    last_error = hipSuccess;
    return error;
}

hipError_t hipExtGetLastError() { return hipGetLastError(); }

hipError_t hipPeekAtLastError() { return last_error; }

const char* hipGetErrorName(hipError_t error) {
    const char* name = name_of(error);
    return name != nullptr ? name : "hipErrorUnknown";
}

const char* hipGetErrorString(hipError_t error) {
    if (explanation.error != hipSuccess && explanation.error == error) {
        return explanation.text;
    }
    const char* sentence = sentence_of(error);
    return sentence != nullptr ? sentence : "unknown error";
}

hipError_t hipDrvGetErrorName(hipError_t error, const char** name) {
    if (name == nullptr) {
        return report(hipErrorInvalidValue);
    }
    *name = name_of(error);
    return *name != nullptr ? hipSuccess : report(hipErrorInvalidValue);
}

hipError_t hipDrvGetErrorString(hipError_t error, const char** description) {
    if (description == nullptr) {
        return report(hipErrorInvalidValue);
    }
    *description = sentence_of(error) != nullptr ? hipGetErrorString(error) : nullptr;
    return *description != nullptr ? hipSuccess : report(hipErrorInvalidValue);
}
