/* The communicator's state, and how it fails. Private to the C core. */
#ifndef HIPCOMM_NATIVE_COMMUNICATOR_H
#define HIPCOMM_NATIVE_COMMUNICATOR_H

#include <stdatomic.h>
#include <stdbool.h>

#include "../../kernels/abi.h"
#include "hip_api.h"
#include "hipcomm.h"
#include "plan.h"
#include "regions.h"
#include "stream_order.h"

struct hipcommComm {
    HipApi hip;
    int device;
    const TuningRow* row;
    hipcommPlanRequest request; /* what all calls have in common; the rest is filled in per call */
    hipcommKernelArgs args;     /* likewise */
    hipFunction_t* functions;
    hipcommStatus* status; /* host address */
    double ticks_per_second;
    RegionTable regions;

    bool check;             /* compare the ranks' calls */
    hipcommLogFunction log; /* or NULL */
    void* log_context;

    StreamOrder order;

    /* The failure, written once by whoever comes first; readers look at `failed` first. */
    atomic_int failure_claim;
    atomic_int failed; /* hipcommResult_t */
    int failed_peer;
    char failure[512];

    char error[1024]; /* hipcommGetLastError() */
    char arch[64];
};

/* Put a message where hipcommGetLastError() finds it (comm may be NULL) and return `result`. */
hipcommResult_t set_error(hipcommComm_t comm, hipcommResult_t result, const char* format, ...)
    __attribute__((format(printf, 3, 4)));

/* The message for a HIP function that returned `error`. */
hipcommResult_t hip_error(hipcommComm_t comm, const char* function, hipError_t error);

/* The same within a collective on `stream`. It fails the communicator: the peers make this call, and this rank does
 * not; its epochs would be behind theirs from now on, and its next call would meet their last one, with wrong sums
 * and no error. Not so where it was to be captured, which nobody has run, nor where there are no peers. */
hipcommResult_t hip_error_in_call(hipcommComm_t comm, const char* function, hipError_t error, hipStream_t stream);

/* The failure that the communicator is in, or success. Two loads when all is well. */
hipcommResult_t check_health(hipcommComm_t comm);

#endif
