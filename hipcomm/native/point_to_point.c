/* Send and receive: one message from one rank to one other (kernels/messages/channel.h). The ranks' calls are
 * not compared (HIPCOMM_CHECK=1): most ranks have none, and every message says how long it is. */
#include "call.h"
#include "call_log.h"

static hipcommResult_t check_message(hipcommComm_t comm, const Call* call) {
    const char* name = operation_name(call->operation);
    const unsigned rank = comm->args.rank, world = comm->args.world;
    const int peer = call->root;
    if (peer < 0 || peer >= (int)world)
        return set_error(comm, hipcommInvalidArgument, "rank %u: %s: peer %d is not in a world of %u", rank, name,
                         peer, world);
    if (peer == (int)rank)
        return set_error(comm, hipcommInvalidArgument,
                         "rank %u: %s: peer %d is this rank itself; a message goes to another rank", rank, name, peer);
    if (call->count && !call->recv)
        return set_error(comm, hipcommInvalidArgument, "rank %u: %s: the buffer is NULL with a count of %llu", rank,
                         name, (unsigned long long)call->count);
    return check_call(comm, call, 1);
}

static hipcommResult_t run_message(hipcommComm_t comm, const Call* call, hipcommStream_t stream_handle) {
    const hipStream_t stream = stream_handle;
    hipcommResult_t result = check_message(comm, call);
    if (result == hipcommSuccess) result = check_health(comm);
    if (result != hipcommSuccess) return result;

    hipcommPlanRequest request = comm->request;
    request.operation = call->operation;
    request.dtype = call->dtype;
    request.bytes = call->count * dtype_size(call->dtype);
    hipcommPlan plan;
    make_plan(&request, comm->row, &plan);
    if (comm->log) log_call(comm, call, request.bytes, &plan);

    bool capturing;
    result = enter_stream(comm, stream, &capturing);
    if (result != hipcommSuccess) return result;
    hipcommKernelArgs args = comm->args;
    fill_args(&args, call, &plan);
    args.send = call->send;
    args.recv = call->recv;
    args.bytes = request.bytes;
    result = launch(comm, &plan, &args, stream);
    if (result == hipcommSuccess) result = leave_stream(comm, stream, capturing);
    /* where launches are synchronous (the CPU platform), a failure belongs to this very call */
    return result == hipcommSuccess ? check_health(comm) : result;
}

hipcommResult_t hipcommSend(const void* sendbuf, size_t count, hipcommDataType_t dtype, int peer,
                            hipcommComm_t comm, hipcommStream_t stream) {
    if (!comm) return no_comm();
    const Call call = {.operation = hipcommOpSend, .send = sendbuf, .recv = (char*)sendbuf, .count = count,
                       .dtype = dtype, .root = peer};
    return run_message(comm, &call, stream);
}

hipcommResult_t hipcommRecv(void* recvbuf, size_t count, hipcommDataType_t dtype, int peer, hipcommComm_t comm,
                            hipcommStream_t stream) {
    if (!comm) return no_comm();
    const Call call = {.operation = hipcommOpRecv, .send = recvbuf, .recv = recvbuf, .count = count,
                       .dtype = dtype, .root = peer};
    return run_message(comm, &call, stream);
}
