/* The platform: which HIP library this process uses. Chosen once, by the first communicator. */
#ifndef HIPCOMM_NATIVE_JOIN_PLATFORM_H
#define HIPCOMM_NATIVE_JOIN_PLATFORM_H

#include <limits.h>

#include "hip_abi.h"
#include "hipcomm_internal.h"

/* The HIP functions that the control plane calls: X(name without hip, arguments). */
#define HIP_CONTROL_FUNCTIONS(X)                                                 \
    X(Init, (unsigned int flags))                                                \
    X(GetDeviceCount, (int* count))                                              \
    X(GetDevice, (int* device))                                                  \
    X(SetDevice, (int device))                                                   \
    X(GetDevicePropertiesR0600, (hipDeviceProp_tR0600 * properties, int device)) \
    X(DeviceGetUuid, (hipUUID * uuid, hipDevice_t device))                       \
    X(DeviceSynchronize, (void))                                                 \
    X(DeviceEnablePeerAccess, (int peer, unsigned int flags))                    \
    X(Malloc, (void** pointer, size_t bytes))                                    \
    X(ExtMallocWithFlags, (void** pointer, size_t bytes, unsigned int flags))    \
    X(Free, (void* pointer))                                                     \
    X(HostMalloc, (void** pointer, size_t bytes, unsigned int flags))            \
    X(HostFree, (void* pointer))                                                 \
    X(HostGetDevicePointer, (void** device, void* host, unsigned int flags))     \
    X(Memcpy, (void* to, const void* from, size_t bytes, hipMemcpyKind kind))    \
    X(StreamSynchronize, (hipStream_t stream))                                   \
    X(MemGetAddressRange, (hipDeviceptr_t * base, size_t* bytes, hipDeviceptr_t pointer)) \
    X(IpcGetMemHandle, (hipIpcMemHandle_t * handle, void* pointer))              \
    X(IpcOpenMemHandle, (void** pointer, hipIpcMemHandle_t handle, unsigned int flags)) \
    X(IpcCloseMemHandle, (void* pointer))                                        \
    X(ModuleLoadData, (hipModule_t * module, const void* image))                 \
    X(ModuleGetFunction, (hipFunction_t * function, hipModule_t module, const char* name)) \
    X(ModuleUnload, (hipModule_t module))

typedef struct HipControl {
#define MEMBER(name, arguments) hipError_t(*name) arguments;
    HIP_CONTROL_FUNCTIONS(MEMBER)
#undef MEMBER
    const char* (*GetErrorName)(hipError_t);
    const char* (*GetErrorString)(hipError_t);
} HipControl;

typedef struct Platform {
    char name[16];
    char library[PATH_MAX]; /* its libamdhip64.so */
    char package[PATH_MAX]; /* the directory of hipcomm that this library lies in */
} Platform;

/* The HIP functions, once the platform is chosen. */
extern const HipControl* hip;

/* Choose the platform, at the first call; later ones must ask for the same or "auto". The message of an error says what
 * was tried. */
hipcommResult_t choose_platform(const char* asked, const Platform** platform);

/* The message for a HIP function that returned an error: "hipMalloc failed with ...". */
hipcommResult_t hip_problem(const char* function, hipError_t error);

/* hipcommSuccess, or hip_problem(). */
#define HIP_CALL(name, ...) hip_check("hip" #name, hip->name(__VA_ARGS__))
hipcommResult_t hip_check(const char* function, hipError_t error);

#endif
