// Primary contexts, and attaching a thread to a device.
#include "context.h"

#include <mutex>

namespace hipcomm::cuda {

namespace {

constexpr int kMaxDevices = 128;  // a host has at most 16 GPUs, or 7 MIG slices of each

// Primary contexts that this library has retained, by ordinal.
std::mutex contexts_mutex;
CUcontext contexts[kMaxDevices];

}  // namespace

// cuDeviceGet speaks of a handle, but a CUdevice is the ordinal in every driver, and cudaSetDevice and
// CuPy rely on that as well.  Asking it is the check of the ordinal.
CUresult primary_context(int device, CUcontext* context) {
    CUdevice handle;
    CUresult result = attempt(driver.cuDeviceGet, &handle, device);
    if (result != CUDA_SUCCESS) {
        return result;
    }
    if (device >= kMaxDevices) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    std::lock_guard<std::mutex> lock(contexts_mutex);
    if (contexts[device] == nullptr) {
        result = driver.cuDevicePrimaryCtxRetain(&contexts[device], handle);
    }
    *context = contexts[device];
    return result;
}

CUresult use_device(int device) {
    CUcontext context;
    CUresult result = primary_context(device, &context);
    return result == CUDA_SUCCESS ? driver.cuCtxSetCurrent(context) : result;
}

CUresult current_device(int* device) {
    CUcontext context = nullptr;
    CUresult result = attempt(driver.cuCtxGetCurrent, &context);
    if (result != CUDA_SUCCESS) {
        return result;
    }
    *device = 0;
    return context == nullptr ? CUDA_SUCCESS : driver.cuCtxGetDevice(device);
}

CUresult attach_thread() {
    CUcontext context = nullptr;
    CUresult result = attempt(driver.cuCtxGetCurrent, &context);
    return result == CUDA_SUCCESS && context == nullptr ? use_device(0) : result;
}

CUresult reset_device() {
    int device;
    CUresult result = current_device(&device);
    if (result != CUDA_SUCCESS) {
        return result;
    }
    {
        std::lock_guard<std::mutex> lock(contexts_mutex);
        result = driver.cuDevicePrimaryCtxReset_v2(device);
        if (result == CUDA_SUCCESS && device < kMaxDevices && contexts[device] != nullptr) {
            // A reset leaves the references counted; ours is to a context that is gone.
            contexts[device] = nullptr;
            result = driver.cuDevicePrimaryCtxRelease_v2(device);
        }
    }
    return result == CUDA_SUCCESS ? use_device(device) : result;
}

bool repair(CUresult* result) {
    if (*result == CUDA_ERROR_NOT_INITIALIZED) {
        *result = initialize_driver();
        return *result == CUDA_SUCCESS;
    }
    if (*result != CUDA_ERROR_INVALID_CONTEXT) {
        return false;
    }
    CUcontext context = nullptr;
    CUresult query = driver.cuCtxGetCurrent(&context);
    if (query != CUDA_SUCCESS || context != nullptr) {
        return false;  // the thread has a context: the failure means something else
    }
    *result = attach_thread();
    return *result == CUDA_SUCCESS;
}

}  // namespace hipcomm::cuda
