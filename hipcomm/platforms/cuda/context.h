/* Which device a thread works on, and calls that see to it.
 *
 * The driver's current context is the only state: hipSetDevice makes the device's primary context current,
 * and a context that CuPy, JAX or torch has made current serves as well as our own.  A thread that has none
 * gets device 0's at the first call that needs one.  That is found out from the driver's answer, not asked
 * before: a call that succeeds costs one branch.
 */
#ifndef HIPCOMM_PLATFORMS_CUDA_CONTEXT_H
#define HIPCOMM_PLATFORMS_CUDA_CONTEXT_H

#include "driver.h"
#include "error.h"

namespace hipcomm::cuda {

// The primary context of a device, retained at its first use and kept until the process ends.
CUresult primary_context(int device, CUcontext* context);

// Makes a device's primary context current on the calling thread.
CUresult use_device(int device);

// The device of the current context; 0 where none is current.  Creates no context.
CUresult current_device(int* device);

// Makes device 0 current where the thread has no context.
CUresult attach_thread();

// Destroys the current device's primary context, with everything in it, and starts a new one.
CUresult reset_device();

// Whether a failed call is worth another try: it loads the driver or attaches the thread, whichever was
// missing.  Where that fails `result` becomes the reason.
[[gnu::cold]] bool repair(CUresult* result);

// Calls the driver, on a thread that has a context.
template <class... Parameters, class... Arguments>
inline CUresult attempt(const Entry<CUresult(Parameters...)>& function, Arguments... arguments) {
    CUresult result = function(arguments...);
    // At most twice: a fresh process lacks the driver, then the thread's context.
    for (int repairs = 0; result != CUDA_SUCCESS && repairs < 2 && repair(&result); ++repairs) {
        result = function(arguments...);
    }
    return result;
}

// The same as the body of a HIP function: translated, and remembered where it failed.
template <class... Parameters, class... Arguments>
inline hipError_t call(const Entry<CUresult(Parameters...)>& function, Arguments... arguments) {
    CUresult result = attempt(function, arguments...);
    return result == CUDA_SUCCESS ? hipSuccess : report(result);
}

}  // namespace hipcomm::cuda

#endif  // HIPCOMM_PLATFORMS_CUDA_CONTEXT_H
