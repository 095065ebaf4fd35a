/* How the host waits: for a stream, or inside a launch where the device is the host; and what can end that. */
#ifndef HIPCOMM_NATIVE_WAITING_H
#define HIPCOMM_NATIVE_WAITING_H

#include <pthread.h>

#include "communicator.h"

/* hipStreamSynchronize, which the interrupt function (hipcommCommSetInterrupt) can end: then it returns hipSuccess,
 * and the communicator has failed. The stream's device is the current one. */
hipError_t wait_for_stream(hipcommComm_t comm, hipStream_t stream);

/* Join a thread that runs a launch of the communicator; the interrupt function can end that too. */
void wait_for_thread(hipcommComm_t comm, pthread_t thread);

/* Refuses a call from within the interrupt function, on the communicator whose call waits in this thread. */
hipcommResult_t check_not_waiting(hipcommComm_t comm);

#endif
