/* From a call and its plan to the device. */
#ifndef HIPCOMM_NATIVE_LAUNCH_H
#define HIPCOMM_NATIVE_LAUNCH_H

#include "failure.h"
#include "tables.h"

/* One call, as the caller made it. */
typedef struct Call {
    hipcommOperation_t operation;
    const char* send;
    char* recv;
    uint64_t rows;  /* in which a rank's part lies in the whole; `count` elements each */
    uint64_t count;
    hipcommDataType_t dtype;
    hipcommRedOp_t op;
    int root; /* or peer */
} Call;

/* The arguments that depend on the call and its plan alone. */
void fill_args(hipcommKernelArgs* args, const Call* call, const hipcommPlan* plan);

/* Launch the plan's kernel; args is its argument struct. */
hipcommResult_t launch(hipcommComm_t comm, const hipcommPlan* plan, void* args, hipStream_t stream);

/* Copy `bytes` bytes within this rank, unless they are there already. */
hipcommResult_t copy_alone(hipcommComm_t comm, const char* from, char* to, uint64_t bytes, hipStream_t stream);

#endif
