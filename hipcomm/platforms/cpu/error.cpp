// Error names and descriptions, and the last error of each thread.
#include "error.h"

namespace hipcomm_cpu {
namespace {

struct ErrorText {
    hipError_t code;
    const char* name;
    const char* description;
};

#define HIPCOMM_ERROR(code, description) {code, #code, description}
constexpr ErrorText kErrors[] = {
    HIPCOMM_ERROR(hipSuccess, "no error"),
    HIPCOMM_ERROR(hipErrorInvalidValue, "invalid argument"),
    HIPCOMM_ERROR(hipErrorOutOfMemory, "out of memory"),
    HIPCOMM_ERROR(hipErrorNotInitialized, "initialization error"),
    HIPCOMM_ERROR(hipErrorDeinitialized, "driver shutting down"),
    HIPCOMM_ERROR(hipErrorInvalidConfiguration, "invalid configuration argument"),
    HIPCOMM_ERROR(hipErrorInvalidPitchValue, "invalid pitch argument"),
    HIPCOMM_ERROR(hipErrorInvalidSymbol, "invalid device symbol"),
    HIPCOMM_ERROR(hipErrorInvalidDevicePointer, "invalid device pointer"),
    HIPCOMM_ERROR(hipErrorInvalidMemcpyDirection, "invalid copy direction for memcpy"),
    HIPCOMM_ERROR(hipErrorInsufficientDriver, "driver version is insufficient for runtime version"),
    HIPCOMM_ERROR(hipErrorMissingConfiguration, "no launch configuration was given"),
    HIPCOMM_ERROR(hipErrorPriorLaunchFailure, "unspecified launch failure in prior launch"),
    HIPCOMM_ERROR(hipErrorInvalidDeviceFunction, "invalid device function"),
    HIPCOMM_ERROR(hipErrorNoDevice, "no HIP-capable device is detected"),
    HIPCOMM_ERROR(hipErrorInvalidDevice, "invalid device ordinal"),
    HIPCOMM_ERROR(hipErrorInvalidImage, "device kernel image is invalid"),
    HIPCOMM_ERROR(hipErrorInvalidContext, "invalid device context"),
    HIPCOMM_ERROR(hipErrorContextAlreadyCurrent, "context is already current context"),
    HIPCOMM_ERROR(hipErrorMapFailed, "mapping of buffer object failed"),
    HIPCOMM_ERROR(hipErrorUnmapFailed, "unmapping of buffer object failed"),
    HIPCOMM_ERROR(hipErrorArrayIsMapped, "array is mapped"),
    HIPCOMM_ERROR(hipErrorAlreadyMapped, "resource already mapped"),
    HIPCOMM_ERROR(hipErrorNoBinaryForGpu, "no kernel image is available for execution on the device"),
    HIPCOMM_ERROR(hipErrorAlreadyAcquired, "resource already acquired"),
    HIPCOMM_ERROR(hipErrorNotMapped, "resource not mapped"),
    HIPCOMM_ERROR(hipErrorNotMappedAsArray, "resource not mapped as array"),
    HIPCOMM_ERROR(hipErrorNotMappedAsPointer, "resource not mapped as pointer"),
    HIPCOMM_ERROR(hipErrorECCNotCorrectable, "uncorrectable ECC error encountered"),
    HIPCOMM_ERROR(hipErrorUnsupportedLimit, "limit is not supported on this architecture"),
    HIPCOMM_ERROR(hipErrorContextAlreadyInUse, "exclusive-thread device already in use by a different thread"),
    HIPCOMM_ERROR(hipErrorPeerAccessUnsupported, "peer access is not supported between these two devices"),
    HIPCOMM_ERROR(hipErrorInvalidKernelFile, "invalid kernel file"),
    HIPCOMM_ERROR(hipErrorInvalidGraphicsContext, "invalid OpenGL or DirectX context"),
    HIPCOMM_ERROR(hipErrorInvalidSource, "device kernel image is invalid"),
    HIPCOMM_ERROR(hipErrorFileNotFound, "file not found"),
    HIPCOMM_ERROR(hipErrorSharedObjectSymbolNotFound, "shared object symbol not found"),
    HIPCOMM_ERROR(hipErrorSharedObjectInitFailed, "shared object initialization failed"),
    HIPCOMM_ERROR(hipErrorOperatingSystem, "OS call failed or operation not supported on this OS"),
    HIPCOMM_ERROR(hipErrorInvalidHandle, "invalid resource handle"),
    HIPCOMM_ERROR(hipErrorIllegalState, "the operation cannot be performed in the present state"),
    HIPCOMM_ERROR(hipErrorNotFound, "named symbol not found"),
    HIPCOMM_ERROR(hipErrorNotReady, "device not ready"),
    HIPCOMM_ERROR(hipErrorIllegalAddress, "an illegal memory access was encountered"),
    HIPCOMM_ERROR(hipErrorLaunchOutOfResources, "too many resources requested for launch"),
    HIPCOMM_ERROR(hipErrorLaunchTimeOut, "the launch timed out and was terminated"),
    HIPCOMM_ERROR(hipErrorPeerAccessAlreadyEnabled, "peer access is already enabled"),
    HIPCOMM_ERROR(hipErrorPeerAccessNotEnabled, "peer access has not been enabled"),
    HIPCOMM_ERROR(hipErrorSetOnActiveProcess, "cannot set while device is active in this process"),
    HIPCOMM_ERROR(hipErrorContextIsDestroyed, "context is destroyed"),
    HIPCOMM_ERROR(hipErrorAssert, "device-side assert triggered"),
    HIPCOMM_ERROR(hipErrorHostMemoryAlreadyRegistered, "part or all of the requested memory range is mapped"),
    HIPCOMM_ERROR(hipErrorHostMemoryNotRegistered, "pointer does not correspond to a registered memory region"),
    HIPCOMM_ERROR(hipErrorLaunchFailure, "unspecified launch failure"),
    HIPCOMM_ERROR(hipErrorCooperativeLaunchTooLarge, "too many blocks in cooperative launch"),
    HIPCOMM_ERROR(hipErrorNotSupported, "operation not supported"),
    HIPCOMM_ERROR(hipErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"),
    HIPCOMM_ERROR(hipErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture"),
    HIPCOMM_ERROR(hipErrorStreamCaptureMerge, "operation would result in a merge of separate capture sequences"),
    HIPCOMM_ERROR(hipErrorStreamCaptureUnmatched, "capture was not ended in the same stream as it began"),
    HIPCOMM_ERROR(hipErrorStreamCaptureUnjoined, "capturing stream has unjoined work"),
    HIPCOMM_ERROR(hipErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream"),
    HIPCOMM_ERROR(hipErrorStreamCaptureImplicit,
                  "operation would make the legacy stream depend on a capturing blocking stream"),
    HIPCOMM_ERROR(hipErrorCapturedEvent, "operation not permitted on an event last recorded in a capturing stream"),
    HIPCOMM_ERROR(hipErrorStreamCaptureWrongThread,
                  "attempt to terminate a thread-local capture sequence from another thread"),
    HIPCOMM_ERROR(hipErrorGraphExecUpdateFailure, "the graph update was not performed"),
    HIPCOMM_ERROR(hipErrorUnknown, "unknown error"),
    HIPCOMM_ERROR(hipErrorRuntimeMemory, "runtime memory call returned error"),
    HIPCOMM_ERROR(hipErrorRuntimeOther, "runtime call other than memory returned error"),
};
#undef HIPCOMM_ERROR

constexpr ErrorText kNoSuchError = {hipErrorUnknown, "hipErrorUnknown", "unrecognized error code"};

const ErrorText& text_of(hipError_t code) noexcept {
    for (const ErrorText& entry : kErrors) {
        if (entry.code == code) return entry;
    }
    return kNoSuchError;
}

bool is_known(hipError_t code) noexcept { return &text_of(code) != &kNoSuchError; }

thread_local hipError_t last_error = hipSuccess;

}  // namespace

hipError_t report(hipError_t result) noexcept {
    if (result != hipSuccess) last_error = result;
    return result;
}

}  // namespace hipcomm_cpu

using namespace hipcomm_cpu;

const char* hipGetErrorName(hipError_t error) { return text_of(error).name; }

const char* hipGetErrorString(hipError_t error) { return text_of(error).description; }

hipError_t hipDrvGetErrorName(hipError_t error, const char** name) {
    if (name == nullptr || !is_known(error)) return report(hipErrorInvalidValue);
    *name = text_of(error).name;
    return hipSuccess;
}

hipError_t hipDrvGetErrorString(hipError_t error, const char** description) {
    if (description == nullptr || !is_known(error)) return report(hipErrorInvalidValue);
    *description = text_of(error).description;
    return hipSuccess;
}

hipError_t hipGetLastError(void) {
    const hipError_t result = last_error;
    last_error = hipSuccess;
    return result;
}

hipError_t hipExtGetLastError(void) { return hipGetLastError(); }

hipError_t hipPeekAtLastError(void) { return last_error; }
