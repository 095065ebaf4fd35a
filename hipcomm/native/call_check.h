/* Call checking (HIPCOMM_CHECK=1): before each collective the ranks compare what they are about to do. */
#ifndef HIPCOMM_NATIVE_CALL_CHECK_H
#define HIPCOMM_NATIVE_CALL_CHECK_H

#include "launch.h"

/* Launch the comparison after the last call on the stream. Outside a capture it waits for the result, so
 * that this call returns the error and nothing runs that does not match; a captured call reports at
 * the replay. bytes: hipcommPlanRequest.bytes; segments: what this rank sends to, and receives from, each. */
hipcommResult_t check_peers(hipcommComm_t comm, const Call* call, uint64_t bytes, const hipcommSegment* segments,
                            hipStream_t stream, bool capturing);

#endif
