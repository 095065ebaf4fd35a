/* The calling thread's current device. A call is made on the communicator's, whatever other device the program, or a
 * framework in it, has made current, and leaves that as it was. Where it is the communicator's already, as ever, that
 * costs one question. */
#ifndef HIPCOMM_NATIVE_CURRENT_DEVICE_H
#define HIPCOMM_NATIVE_CURRENT_DEVICE_H

#include "communicator.h"

hipError_t make_current(hipcommComm_t comm, int* before);

/* `error`, or if that is success, whether the device that was current could be made so again. */
hipError_t restore_current(hipcommComm_t comm, int before, hipError_t error);

/* The same around a collective on `stream`, and what a failure means for it (hip_error_in_call()). */
hipcommResult_t enter_call(hipcommComm_t comm, hipStream_t stream, int* before);
hipcommResult_t leave_call(hipcommComm_t comm, hipStream_t stream, int before, hipcommResult_t result);

#endif
