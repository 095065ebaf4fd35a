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
    bool is_partial; /* a reduce_scatter whose results are float32, unrounded and undivided (nodes_local.c) */
    uint64_t details; /* a hash (add_to_hash) of what else must be the same on all ranks */
} Call;

/* A hash in whose highest bits any one value shows that has changed: `number` says which value this is, 0 to 7. */
static inline uint64_t add_to_hash(uint64_t hash, uint32_t number, uint64_t value) {
    static const uint64_t factors[] = {0x9e3779b97f4a7c15, 0xd1b54a32d192ed03, 0x8cb92ba72f3d8dd7, 0xabc98388fb8fac03,
                                       0x6c8e9cf570932bd5, 0xb5297a4d9d2c5681, 0x5851f42d4c957f2d, 0x2545f4914f6cdd1d};
    return hash + value * factors[number];
}

/* hipcommCheckedCall.call */
uint64_t pack_call(const Call* call);

/* The arguments that depend on the call and its plan alone. */
void fill_args(hipcommKernelArgs* args, const Call* call, const hipcommPlan* plan);

/* Launch the plan's kernel; args is its argument struct. */
hipcommResult_t launch(hipcommComm_t comm, const hipcommPlan* plan, void* args, hipStream_t stream);

/* Copy `bytes` bytes within this rank, unless they are there already. */
hipcommResult_t copy_alone(hipcommComm_t comm, const char* from, char* to, uint64_t bytes, hipStream_t stream);

#endif
