/* The collectives: check, plan, launch. Nothing here allocates, blocks or asks the device. */
#include "call.h"

#include "call_check.h"
#include "call_log.h"

hipcommResult_t launch(hipcommComm_t comm, const hipcommPlan* plan, void* args, hipStream_t stream) {
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

/* Say where the peers find the buffers, and return whether that is enough for the direct algorithm: all of
 * them write all results, and all-reduce reads all inputs. */
static bool find_places(hipcommComm_t comm, const Call* call, uint64_t bytes, hipcommKernelArgs* args) {
    if (comm->regions.count == 0) return false;
    const bool gathers = call->operation == hipcommOpAllGather;
    const bool reads_inputs = call->operation == hipcommOpAllReduce;
    args->send_place = reads_inputs ? find_place(&comm->regions, call->send, bytes) : HIPCOMM_NO_PLACE;
    args->recv_place = find_place(&comm->regions, call->recv, gathers ? bytes * comm->args.world : bytes);
    return args->recv_place != HIPCOMM_NO_PLACE && (!reads_inputs || args->send_place != HIPCOMM_NO_PLACE);
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
}

static hipcommResult_t run(hipcommComm_t comm, const Call* call, hipcommStream_t stream_handle) {
    const hipStream_t stream = stream_handle;
    hipcommResult_t result = check_health(comm);
    if (result != hipcommSuccess) return result;

    hipcommPlanRequest request = comm->request;
    request.operation = call->operation;
    request.dtype = call->dtype;
    request.op = call->op;
    request.bytes = call->count * dtype_size(call->dtype);
    hipcommKernelArgs args = comm->args;
    request.registered = find_places(comm, call, request.bytes, &args);
    hipcommPlan plan;
    make_plan(&request, comm->row, &plan);
    if (comm->log) log_call(comm, call, request.bytes, &plan);
    if (plan.algorithm == hipcommAlgorithmCopy)
        return copy_alone(comm, call->send, call->recv, request.bytes, stream);
    if (plan.kernel < 0 && !comm->check) return hipcommSuccess;

    bool capturing;
    result = enter_stream(comm, stream, &capturing);
    if (result == hipcommSuccess && comm->check)
        result = check_peers(comm, call, request.bytes, NULL, stream, capturing);
    if (result != hipcommSuccess) return result;
    if (plan.kernel < 0) return leave_stream(comm, stream, capturing);

    /* the direct broadcast is in place on all ranks, as the peers read the root's result */
    if (plan.algorithm == hipcommAlgorithmDirect && call->operation == hipcommOpBroadcast)
        result = copy_alone(comm, call->send, call->recv, request.bytes, stream);
    if (result != hipcommSuccess) return result;

    args.recv_stride = request.bytes;
    fill_args(&args, call, &plan);
    uint64_t done = 0;
    do {
        const uint64_t left = request.bytes - done;
        args.send = call->send ? call->send + done : NULL;
        args.recv = call->recv ? call->recv + done : NULL;
        args.bytes = left < plan.bytes_per_launch ? left : plan.bytes_per_launch;
        result = launch(comm, &plan, &args, stream);
        if (result != hipcommSuccess) return result;
        done += args.bytes;
    } while (done < request.bytes);
    result = leave_stream(comm, stream, capturing);
    if (result != hipcommSuccess) return result;
    /* where launches are synchronous (the CPU platform), a failure belongs to this very call */
    return check_health(comm);
}

/* ---- argument checks ----------------------------------------------------------------------------- */

static bool overlap(const char* a, uint64_t a_bytes, const char* b, uint64_t b_bytes) {
    return a < b + b_bytes && b < a + a_bytes;
}

hipcommResult_t check_call(hipcommComm_t comm, const Call* call, uint64_t parts) {
    const char* name = operation_name(call->operation);
    const unsigned rank = comm->args.rank;
    if (!dtype_is_valid((int)call->dtype))
        return set_error(comm, hipcommInvalidArgument, "rank %u: %s: dtype %d is not supported", rank, name,
                         (int)call->dtype);
    if (!redop_is_valid((int)call->op))
        return set_error(comm, hipcommInvalidArgument, "rank %u: %s: reduction %d is not supported", rank, name,
                         (int)call->op);
    if (call->root < 0 || call->root >= (int)comm->args.world)
        return set_error(comm, hipcommInvalidArgument, "rank %u: %s: root %d is not in a world of %u", rank, name,
                         call->root, comm->args.world);
    if (call->count > HIPCOMM_MAX_MESSAGE_BYTES / (parts * dtype_size(call->dtype)))
        return set_error(comm, hipcommInvalidArgument, "rank %u: %s: count %llu is not possible", rank, name,
                         (unsigned long long)call->count);
    if (call->count && (!call->send || !call->recv))
        return set_error(comm, hipcommInvalidArgument, "rank %u: %s: %s is NULL with a count of %llu", rank, name,
                         call->send ? "recvbuf" : "sendbuf", (unsigned long long)call->count);
    return hipcommSuccess;
}

hipcommResult_t check_overlap(hipcommComm_t comm, const Call* call, const char* in_place, uint64_t send_bytes,
                              uint64_t recv_bytes) {
    if (call->send == in_place || !overlap(call->send, send_bytes, call->recv, recv_bytes)) return hipcommSuccess;
    return set_error(comm, hipcommInvalidArgument,
                     "rank %u: %s: sendbuf %p (%llu bytes) and recvbuf %p (%llu bytes) overlap without being in "
                     "place",
                     comm->args.rank, operation_name(call->operation), (const void*)call->send,
                     (unsigned long long)send_bytes, (void*)call->recv, (unsigned long long)recv_bytes);
}

hipcommResult_t no_comm(void) { return set_error(NULL, hipcommInvalidArgument, "comm is NULL"); }

/* ---- the calls -------------------------------------------------------------------------------------*/

hipcommResult_t hipcommAllReduce(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                                 hipcommRedOp_t op, hipcommComm_t comm, hipcommStream_t stream) {
    if (!comm) return no_comm();
    const Call call = {.operation = hipcommOpAllReduce, .send = sendbuf, .recv = recvbuf, .count = count,
                       .dtype = dtype, .op = op};
    hipcommResult_t result = check_call(comm, &call, 1);
    if (result == hipcommSuccess) result = check_overlap(comm, &call, recvbuf, count * dtype_size(dtype), count * dtype_size(dtype));
    return result == hipcommSuccess ? run(comm, &call, stream) : result;
}

hipcommResult_t hipcommAllGather(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                                 hipcommComm_t comm, hipcommStream_t stream) {
    if (!comm) return no_comm();
    const Call call = {.operation = hipcommOpAllGather, .send = sendbuf, .recv = recvbuf, .count = count,
                       .dtype = dtype};
    hipcommResult_t result = check_call(comm, &call, comm->args.world);
    if (result == hipcommSuccess) {
        const uint64_t bytes = count * dtype_size(dtype);
        result = check_overlap(comm, &call, (const char*)recvbuf + comm->args.rank * bytes, bytes,
                               comm->args.world * bytes);
    }
    return result == hipcommSuccess ? run(comm, &call, stream) : result;
}

hipcommResult_t hipcommBroadcast(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                                 int root, hipcommComm_t comm, hipcommStream_t stream) {
    if (!comm) return no_comm();
    const bool is_root = (int)comm->args.rank == root;
    const Call call = {.operation = hipcommOpBroadcast, .send = is_root ? sendbuf : recvbuf, .recv = recvbuf,
                       .count = count, .dtype = dtype, .root = root};
    hipcommResult_t result = check_call(comm, &call, 1);
    if (result == hipcommSuccess) result = check_overlap(comm, &call, recvbuf, count * dtype_size(dtype), count * dtype_size(dtype));
    return result == hipcommSuccess ? run(comm, &call, stream) : result;
}

hipcommResult_t hipcommBarrier(hipcommComm_t comm, hipcommStream_t stream) {
    if (!comm) return no_comm();
    const Call call = {.operation = hipcommOpBarrier};
    return run(comm, &call, stream);
}

/* The default stream is the current device's, which in this thread need not be the communicator's. */
static hipError_t synchronize(hipcommComm_t comm, hipStream_t stream) {
    int before;
    hipError_t error = comm->hip.GetDevice(&before);
    if (error != hipSuccess) return error;
    if (before == comm->device) return comm->hip.StreamSynchronize(stream);
    error = comm->hip.SetDevice(comm->device);
    if (error == hipSuccess) error = comm->hip.StreamSynchronize(stream);
    const hipError_t restored = comm->hip.SetDevice(before);
    return error == hipSuccess ? restored : error;
}

hipcommResult_t hipcommStreamSynchronize(hipcommComm_t comm, hipcommStream_t stream) {
    if (!comm) return no_comm();
    const hipError_t error = synchronize(comm, stream);
    if (error != hipSuccess) return hip_error(comm, "hipStreamSynchronize", error);
    return check_health(comm);
}
