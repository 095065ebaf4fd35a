#include "launch.h"

#include "../abi/slabs.h"
#include "waiting.h"

uint64_t pack_call(const Call* call) {
    return (uint64_t)call->operation | (uint64_t)call->dtype << 8 | (uint64_t)call->op << 16 |
           (uint64_t)call->root << 24 | call->details >> 32 << 32;
}

/* What flags say of a call (slabs.h): equal on all ranks that make the same one, and mostly another for another. */
static uint32_t hash_of(const Call* call) {
    const uint64_t hash = add_to_hash(add_to_hash(add_to_hash(0, 0, pack_call(call)), 1, call->count), 2, call->rows);
    const uint32_t bits = (uint32_t)(hash >> (64 - HIPCOMM_FLAG_HASH_BITS));
    return bits ? bits : 1;
}

void fill_args(hipcommKernelArgs* args, const Call* call, const hipcommPlan* plan) {
    args->blocks = plan->blocks;
    args->threads = plan->threads;
    args->tile_shift = plan->tile_shift;
    args->chunk_packs = plan->chunk_packs;
    args->root = (uint32_t)call->root;
    args->average = call->op == hipcommAvg;
    args->float8 = float8_format(call->dtype);
    args->float8.reduction = (uint8_t)(call->op == hipcommAvg ? hipcommSum : call->op);
    args->operation = (uint32_t)call->operation;
    args->algorithm = (uint32_t)plan->algorithm;
    args->call_hash = operations[call->operation].bytes == kBytesMessage ? (uint32_t)call->dtype : hash_of(call);
}

hipcommResult_t launch(hipcommComm_t comm, const hipcommPlan* plan, void* args, hipStream_t stream) {
    const hipcommResult_t result = check_not_waiting(comm);
    if (result != hipcommSuccess) return result;
    void* parameters[] = {args};
    const hipError_t error =
        comm->hip.ModuleLaunchKernel(comm->functions[plan->kernel], plan->blocks, 1, 1, plan->threads, 1, 1,
                                     plan->shared_bytes, stream, parameters, NULL);
    if (error == hipSuccess) return hipcommSuccess;
    return hip_error_in_call(comm, "hipModuleLaunchKernel", error, stream);
}

hipcommResult_t copy_alone(hipcommComm_t comm, const char* from, char* to, uint64_t bytes, hipStream_t stream) {
    if (from == to || bytes == 0) return hipcommSuccess;
    const hipError_t error = comm->hip.MemcpyAsync(to, from, bytes, hipMemcpyDefault, stream);
    return error == hipSuccess ? hipcommSuccess : hip_error_in_call(comm, "hipMemcpyAsync", error, stream);
}
