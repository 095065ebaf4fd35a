/* The HIP functions that the data plane calls, found at run time in the library that the control
 * plane names: ROCm's, or one of hipcomm/platforms. Nothing is linked. */
#ifndef HIPCOMM_NATIVE_HIP_API_H
#define HIPCOMM_NATIVE_HIP_API_H

#include "hip_abi.h"

typedef struct HipApi {
    void* library;
    hipError_t (*GetDevice)(int*);
    hipError_t (*SetDevice)(int);
    hipError_t (*ModuleLaunchKernel)(hipFunction_t, unsigned, unsigned, unsigned, unsigned, unsigned,
                                     unsigned, unsigned, hipStream_t, void**, void**);
    hipError_t (*Memcpy)(void*, const void*, size_t, hipMemcpyKind);
    hipError_t (*MemcpyAsync)(void*, const void*, size_t, hipMemcpyKind, hipStream_t);
    hipError_t (*Memset)(void*, int, size_t);
    hipError_t (*DeviceGetAttribute)(int*, hipDeviceAttribute_t, int);
    hipError_t (*DeviceSynchronize)(void);
    hipError_t (*StreamCreateWithFlags)(hipStream_t*, unsigned);
    hipError_t (*StreamDestroy)(hipStream_t);
    hipError_t (*StreamSynchronize)(hipStream_t);
    hipError_t (*StreamQuery)(hipStream_t);
    hipError_t (*StreamIsCapturing)(hipStream_t, hipStreamCaptureStatus*);
    hipError_t (*StreamWaitEvent)(hipStream_t, hipEvent_t, unsigned);
    hipError_t (*EventCreateWithFlags)(hipEvent_t*, unsigned);
    hipError_t (*EventRecord)(hipEvent_t, hipStream_t);
    hipError_t (*EventDestroy)(hipEvent_t);
    const char* (*GetErrorName)(hipError_t);
    const char* (*GetErrorString)(hipError_t);
} HipApi;

/* NULL on success; otherwise what is missing: a message valid until the thread's next dlopen. */
const char* hip_api_open(HipApi* api, const char* path);
void hip_api_close(HipApi* api);

#endif
