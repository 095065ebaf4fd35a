/* The steps that all collective calls have in common: check, order behind the last call, launch. */
#ifndef HIPCOMM_NATIVE_CALL_H
#define HIPCOMM_NATIVE_CALL_H

#include "communicator.h"
#include "tables.h"

/* One call, as the caller made it. */
typedef struct Call {
    hipcommOperation_t operation;
    const char* send;
    char* recv;
    uint64_t count;
    hipcommDataType_t dtype;
    hipcommRedOp_t op;
    int root;
} Call;

/* hipcommInvalidArgument for what can be wrong with any call: dtype, reduction, root, a NULL buffer, or a
 * count of which not even `parts` times can be addressed. */
hipcommResult_t check_call(hipcommComm_t comm, const Call* call, uint64_t parts);

/* sendbuf may be exactly `in_place`, or disjoint from recvbuf. */
hipcommResult_t check_overlap(hipcommComm_t comm, const Call* call, const char* in_place, uint64_t send_bytes,
                              uint64_t recv_bytes);

hipcommResult_t no_comm(void);

/* Launch the plan's kernel; args is its argument struct. */
hipcommResult_t launch(hipcommComm_t comm, const hipcommPlan* plan, void* args, hipStream_t stream);

/* The arguments that depend on the call and its plan alone. */
void fill_args(hipcommKernelArgs* args, const Call* call, const hipcommPlan* plan);

/* Copy `bytes` bytes within this rank, unless they are there already. */
hipcommResult_t copy_alone(hipcommComm_t comm, const char* from, char* to, uint64_t bytes, hipStream_t stream);

#endif
