// Events.
#include "context.h"

using namespace hipcomm::cuda;

hipError_t hipEventCreate(hipEvent_t* event) { return hipEventCreateWithFlags(event, hipEventDefault); }

hipError_t hipEventCreateWithFlags(hipEvent_t* event, unsigned int flags) {
    // An event of CUDA always releases to the system; HIP's flags about that have nothing to change.
    constexpr unsigned about_fences =
        hipEventDisableSystemFence | hipEventReleaseToDevice | hipEventReleaseToSystem;
    constexpr unsigned same_number = hipEventBlockingSync | hipEventDisableTiming | hipEventInterprocess;
    if ((flags & ~(about_fences | same_number)) != 0) {
        return report(hipErrorInvalidValue);
    }
    return call(driver.cuEventCreate, event, flags & same_number);
}

hipError_t hipEventDestroy(hipEvent_t event) { return call(driver.cuEventDestroy_v2, event); }

hipError_t hipEventRecord(hipEvent_t event, hipStream_t stream) {
    return call(driver.cuEventRecord, event, stream);
}

hipError_t hipEventRecordWithFlags(hipEvent_t event, hipStream_t stream, unsigned int flags) {
    return call(driver.cuEventRecordWithFlags, event, stream, flags);
}

hipError_t hipEventSynchronize(hipEvent_t event) { return call(driver.cuEventSynchronize, event); }

hipError_t hipEventQuery(hipEvent_t event) { return call(driver.cuEventQuery, event); }

hipError_t hipEventElapsedTime(float* milliseconds, hipEvent_t start, hipEvent_t stop) {
    return call(driver.cuEventElapsedTime, milliseconds, start, stop);
}
