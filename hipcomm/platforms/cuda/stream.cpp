// Streams, and host functions in them.
#include <memory>
#include <new>

#include "context.h"

using namespace hipcomm::cuda;

// A HIP stream is the CUDA stream itself.  The null stream, hipStreamLegacy and hipStreamPerThread have
// CUDA's values, 0, 1 and 2; so have the creation flags.
hipError_t hipStreamCreate(hipStream_t* stream) { return hipStreamCreateWithFlags(stream, hipStreamDefault); }

hipError_t hipStreamCreateWithFlags(hipStream_t* stream, unsigned int flags) {
    return call(driver.cuStreamCreate, stream, flags);
}

hipError_t hipStreamCreateWithPriority(hipStream_t* stream, unsigned int flags, int priority) {
    return call(driver.cuStreamCreateWithPriority, stream, flags, priority);
}

hipError_t hipDeviceGetStreamPriorityRange(int* least, int* greatest) {
    return call(driver.cuCtxGetStreamPriorityRange, least, greatest);
}

hipError_t hipStreamDestroy(hipStream_t stream) { return call(driver.cuStreamDestroy_v2, stream); }

hipError_t hipStreamSynchronize(hipStream_t stream) { return call(driver.cuStreamSynchronize, stream); }

hipError_t hipStreamQuery(hipStream_t stream) { return call(driver.cuStreamQuery, stream); }

hipError_t hipStreamWaitEvent(hipStream_t stream, hipEvent_t event, unsigned int flags) {
    return call(driver.cuStreamWaitEvent, stream, event, flags);
}

hipError_t hipStreamGetFlags(hipStream_t stream, unsigned int* flags) {
    return call(driver.cuStreamGetFlags, stream, flags);
}

hipError_t hipStreamGetPriority(hipStream_t stream, int* priority) {
    return call(driver.cuStreamGetPriority, stream, priority);
}

// The driver tells a stream's context, and a context's device only of the current one: make it current for
// the question.
hipError_t hipStreamGetDevice(hipStream_t stream, hipDevice_t* device) {
    if (device == nullptr) {
        return report(hipErrorInvalidValue);
    }
    CUcontext owner;
    CUcontext current;
    CUresult result = attempt(driver.cuStreamGetCtx, stream, &owner);
    if (result == CUDA_SUCCESS) {
        result = driver.cuCtxGetCurrent(&current);
    }
    if (result != CUDA_SUCCESS) {
        return report(result);
    }
    result = driver.cuCtxSetCurrent(owner);
    if (result == CUDA_SUCCESS) {
        result = driver.cuCtxGetDevice(device);
    }
    CUresult restored = driver.cuCtxSetCurrent(current);
    return report(result == CUDA_SUCCESS ? restored : result);
}

/* ---- host functions ----------------------------------------------------------------------------- */

hipError_t hipLaunchHostFunc(hipStream_t stream, hipHostFn_t function, void* user_data) {
    return call(driver.cuLaunchHostFunc, stream, function, user_data);
}

namespace {

struct Callback {
    hipStreamCallback_t function;
    void* user_data;
};

void run_callback(hipStream_t stream, CUresult status, void* callback) {
    std::unique_ptr<Callback> owned(static_cast<Callback*>(callback));
    owned->function(stream, translate(status), owned->user_data);
}

}  // namespace

// The driver runs a callback exactly once, and refuses to capture it, so the callback can free its record.
hipError_t hipStreamAddCallback(hipStream_t stream, hipStreamCallback_t callback, void* user_data,
                                unsigned int flags) {
    if (callback == nullptr) {
        return report(hipErrorInvalidValue);
    }
    std::unique_ptr<Callback> record(new (std::nothrow) Callback{callback, user_data});
    if (record == nullptr) {
        return report(hipErrorOutOfMemory);
    }
    void* argument = record.get();
    hipError_t error = call(driver.cuStreamAddCallback, stream, &run_callback, argument, flags);
    if (error == hipSuccess) {
        record.release();  // run_callback's from here on; it may have run already
    }
    return error;
}
