/* How a call fails, and how a communicator does. */
#ifndef HIPCOMM_NATIVE_FAILURE_H
#define HIPCOMM_NATIVE_FAILURE_H

#include "communicator.h"
#include "handles.h"

/* Put a message where hipcommGetLastError() finds it (comm may be NULL) and return `result`. */
hipcommResult_t set_error(hipcommComm_t comm, hipcommResult_t result, const char* format, ...)
    __attribute__((format(printf, 3, 4)));

hipcommResult_t no_comm(void);

/* The message for a HIP function that returned `error`. */
hipcommResult_t hip_error(hipcommComm_t comm, const char* function, hipError_t error);

/* The same within a collective on `stream`. It fails the communicator: the peers make this call, and this rank does
 * not; its epochs would be behind theirs from now on, and its next call would meet their last one, with wrong sums
 * and no error. Except in a capture, which has run nowhere, and where there are no peers. */
hipcommResult_t hip_error_in_call(hipcommComm_t comm, const char* function, hipError_t error, hipStream_t stream);

/* Whether a stream is being captured. */
bool is_captured(hipcommComm_t comm, hipStream_t stream);

/* The failure that the communicator is in, or success. Two loads when all is well. */
hipcommResult_t check_health(hipcommComm_t comm);

#endif
