// Starting up, choosing a device, waiting for it, and access between devices.
#include "context.h"

using namespace hipcomm::cuda;

// Which functions and layouts this library speaks: HIP 7.2, major * 10^7 + minor * 10^5 + patch.
static constexpr int kHipVersion = 70200000;

hipError_t hipInit(unsigned int flags) {
    if (flags != 0) {
        return report(hipErrorInvalidValue);
    }
    return report(initialize_driver());
}

// CUDA's own number, for example 13000, as HIP documents it for NVIDIA GPUs.
hipError_t hipDriverGetVersion(int* version) {
    if (version == nullptr) {
        return report(hipErrorInvalidValue);
    }
    *version = 0;
    return call(driver.cuDriverGetVersion, version);
}

hipError_t hipRuntimeGetVersion(int* version) {
    if (version == nullptr) {
        return report(hipErrorInvalidValue);
    }
    *version = kHipVersion;
    return hipSuccess;
}

hipError_t hipGetDeviceCount(int* count) {
    if (count == nullptr) {
        return report(hipErrorInvalidValue);
    }
    *count = 0;
    CUresult result = attempt(driver.cuDeviceGetCount, count);
    if (result == CUDA_SUCCESS && *count == 0) {
        result = CUDA_ERROR_NO_DEVICE;
    }
    return report(result);
}

hipError_t hipSetDevice(int device) { return report(use_device(device)); }

hipError_t hipGetDevice(int* device) {
    if (device == nullptr) {
        return report(hipErrorInvalidValue);
    }
    return report(current_device(device));
}

// The scheduling flags have CUDA's numbers.  hipDeviceMapHost is accepted and means nothing: host memory can
// always be mapped.
hipError_t hipSetDeviceFlags(unsigned int flags) {
    if ((flags & ~(hipDeviceScheduleMask | hipDeviceMapHost | hipDeviceLmemResizeToMax)) != 0) {
        return report(hipErrorInvalidValue);
    }
    int device;
    CUresult result = current_device(&device);
    if (result != CUDA_SUCCESS) {
        return report(result);
    }
    return call(driver.cuDevicePrimaryCtxSetFlags_v2, device, flags & ~hipDeviceMapHost);
}

hipError_t hipDeviceSynchronize() { return call(driver.cuCtxSynchronize); }

hipError_t hipDeviceReset() { return report(reset_device()); }

/* ---- peers -------------------------------------------------------------------------------------- */

hipError_t hipDeviceCanAccessPeer(int* can_access, int device, int peer) {
    return call(driver.cuDeviceCanAccessPeer, can_access, device, peer);
}

hipError_t hipDeviceEnablePeerAccess(int peer, unsigned int flags) {
    CUcontext context;
    CUresult result = primary_context(peer, &context);
    if (result != CUDA_SUCCESS) {
        return report(result);
    }
    return call(driver.cuCtxEnablePeerAccess, context, flags);
}

hipError_t hipDeviceDisablePeerAccess(int peer) {
    CUcontext context;
    CUresult result = primary_context(peer, &context);
    if (result != CUDA_SUCCESS) {
        return report(result);
    }
    return call(driver.cuCtxDisablePeerAccess, context);
}

hipError_t hipDeviceGetP2PAttribute(int* value, hipDeviceP2PAttr attribute, int source, int destination) {
    if (attribute < hipDevP2PAttrPerformanceRank || attribute > hipDevP2PAttrHipArrayAccessSupported) {
        return report(hipErrorInvalidValue);
    }
    CUdevice_P2PAttribute cuda_attribute = attribute + 1;  // the same four, but CUDA counts from one
    return call(driver.cuDeviceGetP2PAttribute, value, cuda_attribute, source, destination);
}
