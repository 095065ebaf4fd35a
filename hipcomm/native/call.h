/* A collective call or a message, from its description to its launches. */
#ifndef HIPCOMM_NATIVE_CALL_H
#define HIPCOMM_NATIVE_CALL_H

#include "launch.h"

/* Where the parts of a buffer are that the caller has given counts for, in bytes. */
typedef struct Parts {
    uint64_t offset[HIPCOMM_MAX_RANKS];
    uint64_t bytes[HIPCOMM_MAX_RANKS];
    uint64_t begin, end; /* of all parts that are not empty */
    uint64_t most;
} Parts;

/* hipcommInvalidArgument for what can be wrong with any call: dtype, reduction, root or peer, a NULL buffer, or a
 * count or rows of which the buffers cannot be addressed. */
hipcommResult_t check_call(hipcommComm_t comm, const Call* call);

/* Check, plan, launch. `sent` and `received`: where an operation has parts of different length; otherwise they are
 * equal, and what operations.def says of the operation is all there is to know. */
hipcommResult_t run(hipcommComm_t comm, Call* call, const Parts* sent, const Parts* received, hipcommStream_t stream);

#endif
