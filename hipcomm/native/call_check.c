#include "call_check.h"

#include "kernel_table.h"
#include "waiting.h"

hipcommResult_t check_peers(hipcommComm_t comm, const Call* call, uint64_t bytes, const hipcommSegment* segments,
                            hipStream_t stream, bool capturing) {
    const hipcommPlan plan = {
        .algorithm = hipcommAlgorithmOneShot,
        .kernel = check_kernel_index(),
        .blocks = 1,
        .threads = comm->row->threads,
        .shared_bytes = HIPCOMM_BLOCK_STATE_BYTES,
    };
    const enum Compared compared = operations[call->operation].compared;
    hipcommCheckArgs args = {.common = comm->args, .call = pack_call(call)};
    if (compared != kComparePairs) args.count = bytes / dtype_size(call->dtype);
    fill_args(&args.common, call, &plan);
    args.common.call_hash = 1; /* of all ranks, whatever they call */
    for (uint32_t peer = 0; peer < comm->args.world; ++peer) {
        args.sent[peer] = compared == kCompareCount ? comm->memory_order : segments[peer].send_bytes;
        args.received[peer] = compared == kCompareCount ? comm->memory_order : segments[peer].recv_bytes;
    }
    const hipcommResult_t result = launch(comm, &plan, &args, stream);
    if (result != hipcommSuccess || capturing) return result;
    const hipError_t error = wait_for_stream(comm, stream);
    if (error != hipSuccess) return hip_error_in_call(comm, "hipStreamSynchronize", error, stream);
    return check_health(comm);
}

hipcommResult_t hipcommCommSetMemoryOrder(hipcommComm_t comm, uint64_t order) {
    if (!is_live(comm)) return no_comm();
    comm->memory_order = order;
    return hipcommSuccess;
}
