// Memory and events of other processes.
#include "context.h"

using namespace hipcomm::cuda;

// A HIP handle is 64 opaque bytes; here they are the driver's.  Mapping lazily enables peer access between
// the two devices where it can be had.
hipError_t hipIpcGetMemHandle(hipIpcMemHandle_t* handle, void* pointer) {
    if (handle == nullptr || pointer == nullptr) {
        return report(hipErrorInvalidValue);
    }
    return call(driver.cuIpcGetMemHandle, handle, pointer);
}

hipError_t hipIpcOpenMemHandle(void** pointer, hipIpcMemHandle_t handle, unsigned int flags) {
    if (pointer == nullptr) {
        return report(hipErrorInvalidValue);
    }
    return call(driver.cuIpcOpenMemHandle_v2, pointer, handle, flags);
}

hipError_t hipIpcCloseMemHandle(void* pointer) {
    return pointer == nullptr ? report(hipErrorInvalidValue) : call(driver.cuIpcCloseMemHandle, pointer);
}

