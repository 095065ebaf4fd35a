#include "call_check.h"

#include <stdio.h>

#include "kernel_table.h"

/* hipcommCheckedCall.call */
static uint64_t pack_call(const Call* call) {
    return (uint64_t)call->operation | (uint64_t)call->dtype << 8 | (uint64_t)call->op << 16 |
           (uint64_t)call->root << 24;
}

hipcommResult_t check_peers(hipcommComm_t comm, const Call* call, uint64_t bytes, const hipcommSegment* segments,
                            hipStream_t stream, bool capturing) {
    const hipcommPlan plan = {
        .algorithm = hipcommAlgorithmOneShot,
        .kernel = check_kernel_index(),
        .blocks = 1,
        .threads = comm->row->threads,
        .shared_bytes = HIPCOMM_BLOCK_STATE_BYTES,
    };
    hipcommCheckArgs args = {.common = comm->args, .call = pack_call(call), .count = bytes / dtype_size(call->dtype)};
    fill_args(&args.common, call, &plan);
    for (uint32_t peer = 0; segments && peer < comm->args.world; ++peer) {
        args.sent[peer] = segments[peer].send_bytes;
        args.received[peer] = segments[peer].recv_bytes;
    }
    const hipcommResult_t result = launch(comm, &plan, &args, stream);
    if (result != hipcommSuccess || capturing) return result;
    const hipError_t error = comm->hip.StreamSynchronize(stream);
    if (error != hipSuccess) return hip_error_in_call(comm, "hipStreamSynchronize", error, stream);
    return check_health(comm);
}

/* "all_reduce(count 100, float32, sum)" */
static void describe(const hipcommCheckedCall* side, char* text, size_t size) {
    const uint32_t operation = side->call & 0xff;
    const hipcommDataType_t dtype = side->call >> 8 & 0xff;
    const hipcommRedOp_t op = side->call >> 16 & 0xff;
    const bool reduces = operation == hipcommOpAllReduce || operation == hipcommOpReduceScatter ||
                         operation == hipcommOpReduce;
    const bool has_root = operation == hipcommOpBroadcast || operation == hipcommOpReduce ||
                          operation == hipcommOpGather || operation == hipcommOpScatter;
    const bool by_pair = operation == hipcommOpAllToAllv || operation == hipcommOpAllGatherv;
    int used = snprintf(text, size, "%s(", operation_name(operation));
    if (operation != hipcommOpBarrier) {
        if (by_pair)
            used += snprintf(text + used, size - used, "%llu bytes to the other, %llu bytes from it",
                             (unsigned long long)side->sent, (unsigned long long)side->received);
        else
            used += snprintf(text + used, size - used, "count %llu", (unsigned long long)side->count);
        used += snprintf(text + used, size - used, ", %s", dtype_is_valid((int)dtype) ? dtype_name(dtype) : "?");
        if (reduces) used += snprintf(text + used, size - used, ", %s", redop_is_valid((int)op) ? redop_name(op) : "?");
        if (has_root) used += snprintf(text + used, size - used, ", root %u", (uint32_t)(side->call >> 24 & 0xff));
    }
    snprintf(text + used, size - used, ")");
}

void adopt_differing_calls(hipcommComm_t comm) {
    const hipcommStatus* status = comm->status;
    char first[160], second[160], message[512];
    describe(&status->calls[0], first, sizeof first);
    describe(&status->calls[1], second, sizeof second);
    snprintf(message, sizeof message, "rank %u: call %llu differs between ranks: rank %u calls %s, rank %u calls %s",
             comm->args.rank, (unsigned long long)status->checked_calls, status->ranks[0], first, status->ranks[1],
             second);
    hipcommCommAbort(comm, hipcommCallMismatch, (int)status->ranks[1], message);
}
