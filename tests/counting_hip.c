/* A HIP library that notes which functions an eager call makes, and passes them on to the real one. It is linked
 * against that, so dlsym() finds there what is not defined here. Built by counting.py. */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "hip_functions.h"

static char calls[1024];

static const char* failing = "";

/* The next call of the function fails. */
void fail_next(const char* name) { failing = strdup(name); }

static int launched_on = -1;

/* The device that was current at the last launch. */
int device_of_last_launch(void) { return launched_on; }

static void* note(const char* name) {
    if (!strcmp(name, "hipModuleLaunchKernel") && hipGetDevice(&launched_on) != hipSuccess) return NULL;
    if (!strcmp(name, failing)) {
        failing = "";
        return NULL;
    }
    const size_t used = strlen(calls);
    snprintf(calls + used, sizeof calls - used, "%s%s", used ? " " : "", name);
    return dlsym(RTLD_NEXT, name);
}

/* The functions that were called since the last time, in order. */
const char* take_calls(void) {
    static char taken[sizeof calls];
    memcpy(taken, calls, sizeof taken);
    calls[0] = '\0';
    return taken;
}

static bool is_side_by_side;

/* Claim that the device runs kernels side by side, or what the real library says. */
void pretend_side_by_side(void) { is_side_by_side = true; }

hipError_t hipDeviceGetAttribute(int* value, hipDeviceAttribute_t attribute, int device) {
    hipError_t (*real)(int*, hipDeviceAttribute_t, int);
    void* const address = dlsym(RTLD_NEXT, "hipDeviceGetAttribute");
    memcpy(&real, &address, sizeof real);
    const hipError_t error = real(value, attribute, device);
    if (is_side_by_side && attribute == hipDeviceAttributeConcurrentKernels) *value = 1;
    return error;
}

#define NOTED(name, parameters, ...)                   \
    hipError_t name parameters {                       \
        hipError_t(*real) parameters;                  \
        void* const address = note(#name);             \
        memcpy(&real, &address, sizeof real);          \
        return real ? real(__VA_ARGS__) : hipErrorUnknown; \
    }

NOTED(hipDeviceSynchronize, (void))
NOTED(hipStreamSynchronize, (hipStream_t stream), stream)
NOTED(hipStreamQuery, (hipStream_t stream), stream)
NOTED(hipStreamIsCapturing, (hipStream_t stream, hipStreamCaptureStatus* status), stream, status)
NOTED(hipStreamWaitEvent, (hipStream_t stream, hipEvent_t event, unsigned flags), stream, event, flags)
NOTED(hipEventRecord, (hipEvent_t event, hipStream_t stream), event, stream)
NOTED(hipMemcpy, (void* to, const void* from, size_t bytes, hipMemcpyKind kind), to, from, bytes, kind)
NOTED(hipMemset, (void* to, int value, size_t bytes), to, value, bytes)
NOTED(hipEventCreateWithFlags, (hipEvent_t* event, unsigned flags), event, flags)
NOTED(hipMemcpyAsync, (void* to, const void* from, size_t bytes, hipMemcpyKind kind, hipStream_t stream), to, from,
      bytes, kind, stream)
NOTED(hipModuleLaunchKernel,
      (hipFunction_t function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
       unsigned shared, hipStream_t stream, void** parameters, void** extra),
      function, gx, gy, gz, bx, by, bz, shared, stream, parameters, extra)
