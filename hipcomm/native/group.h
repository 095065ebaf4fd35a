/* Groups: sends and receives that do not wait for each other. */
#ifndef HIPCOMM_NATIVE_GROUP_H
#define HIPCOMM_NATIVE_GROUP_H

#include "communicator.h"

/* Whether this thread is between hipcommGroupStart() and hipcommGroupEnd(). */
bool is_in_group(void);

/* Keep a message, ready for its launch, until the end of the group. */
hipcommResult_t add_to_group(hipcommComm_t comm, const hipcommPlan* plan, const hipcommKernelArgs* args,
                             hipStream_t stream);

/* The streams and events that a communicator has for its groups. */
hipError_t free_lanes(hipcommComm_t comm);

#endif
