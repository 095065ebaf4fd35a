#ifndef HIPCOMM_NATIVE_CALL_LOG_H
#define HIPCOMM_NATIVE_CALL_LOG_H

#include "launch.h"

/* Tell the communicator's log, which is not NULL. bytes: hipcommPlanRequest.bytes. */
void log_call(hipcommComm_t comm, const Call* call, uint64_t bytes, const hipcommPlan* plan);

#endif
