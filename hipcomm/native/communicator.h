/* The communicator's state. Private to the C core. */
#ifndef HIPCOMM_NATIVE_COMMUNICATOR_H
#define HIPCOMM_NATIVE_COMMUNICATOR_H

#include <stdatomic.h>
#include <stdbool.h>

#include "../abi/kernel_args.h"
#include "../abi/slabs.h"
#include "hip_api.h"
#include "hipcomm_internal.h"
#include "plan.h"
#include "regions.h"
#include "stream_order.h"

/* Where a group's messages to or from one rank go (group.c); made when first used. */
typedef struct Lane {
    hipStream_t stream;
    hipEvent_t mark;
} Lane;

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
    uint64_t memory_order;  /* of the next call's elements, to be compared with the rest; 0: C order */
    hipcommLogFunction log; /* or NULL */
    void* log_context;

    hipcommInterruptFunction interrupt; /* or NULL */
    void* interrupt_context;

    StreamOrder order;
    bool runs_side_by_side; /* the device: kernels on different streams */
    Lane lanes[2 * HIPCOMM_MAX_RANKS]; /* to each rank, then from each */

    /* The failure, written once, by the first to claim it; readers look at `failed` first. */
    atomic_int failure_claim;
    atomic_int failed; /* hipcommResult_t */
    int failed_peer;
    char failure[512];

    /* The control plane, where it is in C (join/session.h), and how it hears of the failure that a call reports first:
     * `failure` and what the call says. NULL: nobody. */
    struct Session* session;
    void (*on_failure)(void* session, hipcommResult_t result, int peer, const char* message);
    bool failure_is_told;

    char error[1024]; /* hipcommGetLastError() */
    char arch[64];
};

#endif
