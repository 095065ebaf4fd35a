/* Two launches of one communicator must not run at the same time: a call runs after the last one, even if
 * that was on another stream. Private to the C core. */
#ifndef HIPCOMM_NATIVE_STREAM_ORDER_H
#define HIPCOMM_NATIVE_STREAM_ORDER_H

#include <stdbool.h>

#include "hip_api.h"
#include "hipcomm.h"

typedef struct StreamOrder {
    hipStream_t last; /* of the last eager call; valid if `used` */
    bool used;
    bool marks;       /* the end of each call on the caller's streams is marked by `end` */
    hipEvent_t end;
} StreamOrder;

/* Before a call's launches. `capturing` is found out only where it is needed: it is false, unasked, on
 * the short way described in stream_order.c. */
hipcommResult_t enter_stream(hipcommComm_t comm, hipStream_t stream, bool* capturing);

/* After them. */
hipcommResult_t leave_stream(hipcommComm_t comm, hipStream_t stream, bool capturing);

#endif
