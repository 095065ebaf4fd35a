/* The collectives, and the messages between two ranks: each says what it is of. What that means is in
 * hipcomm/abi/operations.def and kernels.def. */
#include "call.h"

/* A call whose parts are equal: `rows` rows of `count` elements. */
static hipcommResult_t run_equal(hipcommOperation_t operation, const void* sendbuf, void* recvbuf, size_t rows,
                                 size_t count, hipcommDataType_t dtype, hipcommRedOp_t op, int root,
                                 hipcommComm_t comm, hipcommStream_t stream) {
    if (!is_live(comm)) return no_comm();
    Call call = {.operation = operation, .send = sendbuf, .recv = recvbuf, .rows = rows, .count = count, .dtype = dtype,
                 .op = op, .root = root};
    return run(comm, &call, NULL, NULL, stream);
}

hipcommResult_t hipcommAllReduce(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                                 hipcommRedOp_t op, hipcommComm_t comm, hipcommStream_t stream) {
    return run_equal(hipcommOpAllReduce, sendbuf, recvbuf, 1, count, dtype, op, 0, comm, stream);
}

hipcommResult_t hipcommAllGather(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                                 hipcommComm_t comm, hipcommStream_t stream) {
    return run_equal(hipcommOpAllGather, sendbuf, recvbuf, 1, count, dtype, hipcommSum, 0, comm, stream);
}

hipcommResult_t hipcommBroadcast(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                                 int root, hipcommComm_t comm, hipcommStream_t stream) {
    return run_equal(hipcommOpBroadcast, sendbuf, recvbuf, 1, count, dtype, hipcommSum, root, comm, stream);
}

hipcommResult_t hipcommReduceScatterRows(const void* sendbuf, void* recvbuf, size_t rows, size_t count,
                                         hipcommDataType_t dtype, hipcommRedOp_t op, hipcommComm_t comm,
                                         hipcommStream_t stream) {
    return run_equal(hipcommOpReduceScatter, sendbuf, recvbuf, rows, rows ? count : 0, dtype, op, 0, comm, stream);
}

hipcommResult_t hipcommReduceScatter(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                                     hipcommRedOp_t op, hipcommComm_t comm, hipcommStream_t stream) {
    return run_equal(hipcommOpReduceScatter, sendbuf, recvbuf, 1, count, dtype, op, 0, comm, stream);
}

hipcommResult_t hipcommReduce(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                              hipcommRedOp_t op, int root, hipcommComm_t comm, hipcommStream_t stream) {
    return run_equal(hipcommOpReduce, sendbuf, recvbuf, 1, count, dtype, op, root, comm, stream);
}

hipcommResult_t hipcommAllToAll(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                                hipcommComm_t comm, hipcommStream_t stream) {
    return run_equal(hipcommOpAllToAll, sendbuf, recvbuf, 1, count, dtype, hipcommSum, 0, comm, stream);
}

hipcommResult_t hipcommGather(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                              int root, hipcommComm_t comm, hipcommStream_t stream) {
    return run_equal(hipcommOpGather, sendbuf, recvbuf, 1, count, dtype, hipcommSum, root, comm, stream);
}

hipcommResult_t hipcommScatter(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                               int root, hipcommComm_t comm, hipcommStream_t stream) {
    return run_equal(hipcommOpScatter, sendbuf, recvbuf, 1, count, dtype, hipcommSum, root, comm, stream);
}

hipcommResult_t hipcommAllGatherRows(const void* sendbuf, void* recvbuf, size_t rows, size_t count,
                                     hipcommDataType_t dtype, hipcommComm_t comm, hipcommStream_t stream) {
    if (rows <= 1) return hipcommAllGather(sendbuf, recvbuf, rows * count, dtype, comm, stream);
    return run_equal(hipcommOpAllGatherRows, sendbuf, recvbuf, rows, count, dtype, hipcommSum, 0, comm, stream);
}

hipcommResult_t hipcommBarrier(hipcommComm_t comm, hipcommStream_t stream) {
    return run_equal(hipcommOpBarrier, NULL, NULL, 1, 0, hipcommInt8, hipcommSum, 0, comm, stream);
}

hipcommResult_t hipcommSend(const void* sendbuf, size_t count, hipcommDataType_t dtype, int peer,
                            hipcommComm_t comm, hipcommStream_t stream) {
    return run_equal(hipcommOpSend, sendbuf, (char*)sendbuf, 1, count, dtype, hipcommSum, peer, comm, stream);
}

hipcommResult_t hipcommRecv(void* recvbuf, size_t count, hipcommDataType_t dtype, int peer, hipcommComm_t comm,
                            hipcommStream_t stream) {
    return run_equal(hipcommOpRecv, recvbuf, recvbuf, 1, count, dtype, hipcommSum, peer, comm, stream);
}

/* ---- unequal parts --------------------------------------------------------------------------------------------- */

/* False if the counts are NULL, or no memory could hold them. */
static bool measure(const size_t* counts, const size_t* displacements, uint64_t element, uint32_t world,
                    Parts* parts) {
    const uint64_t limit = HIPCOMM_MAX_MESSAGE_BYTES / element / HIPCOMM_MAX_RANKS;
    *parts = (Parts){.begin = UINT64_MAX};
    if (!counts) return false;
    uint64_t next = 0;
    for (uint32_t rank = 0; rank < world; ++rank) {
        const uint64_t displacement = displacements ? displacements[rank] : next;
        if (counts[rank] > limit || displacement > limit) return false;
        next = displacement + counts[rank];
        parts->offset[rank] = displacement * element;
        parts->bytes[rank] = counts[rank] * element;
        parts->most = parts->bytes[rank] > parts->most ? parts->bytes[rank] : parts->most;
        if (counts[rank] == 0) continue;
        if (parts->offset[rank] < parts->begin) parts->begin = parts->offset[rank];
        if (next * element > parts->end) parts->end = next * element;
    }
    if (parts->end == 0) parts->begin = 0;
    return true;
}

static hipcommResult_t refuse_counts(hipcommComm_t comm, hipcommOperation_t operation, const char* which) {
    return set_error(comm, hipcommInvalidArgument, "rank %u: %s: %s are NULL or not possible", comm->args.rank,
                     operations[operation].name, which);
}

hipcommResult_t hipcommAllGatherv(const void* sendbuf, void* recvbuf, const size_t* counts, const size_t* displs,
                                  hipcommDataType_t dtype, hipcommComm_t comm, hipcommStream_t stream) {
    if (!is_live(comm)) return no_comm();
    const uint32_t world = comm->args.world, rank = comm->args.rank;
    Call call = {.operation = hipcommOpAllGatherv, .send = sendbuf, .recv = recvbuf, .rows = 1, .dtype = dtype};
    hipcommResult_t result = check_call(comm, &call); /* the dtype, before it is used */
    if (result != hipcommSuccess) return result;
    Parts parts;
    if (!measure(counts, displs, dtype_size(dtype), world, &parts)) return refuse_counts(comm, call.operation, "counts");
    const uint64_t own = parts.bytes[rank];
    if (parts.most && (!recvbuf || (own && !sendbuf)))
        return set_error(comm, hipcommInvalidArgument, "rank %u: %s: %s is NULL", rank,
                         operations[call.operation].name, recvbuf ? "sendbuf" : "recvbuf");
    for (uint32_t peer = 0; peer < world; ++peer)
        call.details = add_to_hash(call.details, peer % 8, (peer + 1) * counts[peer]);
    return run(comm, &call, NULL, &parts, stream);
}

hipcommResult_t hipcommAllToAllv(const void* sendbuf, const size_t* sendcounts, const size_t* senddispls,
                                 void* recvbuf, const size_t* recvcounts, const size_t* recvdispls,
                                 hipcommDataType_t dtype, hipcommComm_t comm, hipcommStream_t stream) {
    if (!is_live(comm)) return no_comm();
    const uint32_t world = comm->args.world, rank = comm->args.rank;
    Call call = {.operation = hipcommOpAllToAllv, .send = sendbuf, .recv = recvbuf, .rows = 1, .dtype = dtype};
    hipcommResult_t result = check_call(comm, &call);
    if (result != hipcommSuccess) return result;
    Parts sent, received;
    if (!measure(sendcounts, senddispls, dtype_size(dtype), world, &sent))
        return refuse_counts(comm, call.operation, "sendcounts");
    if (!measure(recvcounts, recvdispls, dtype_size(dtype), world, &received))
        return refuse_counts(comm, call.operation, "recvcounts");
    if (sendcounts[rank] != recvcounts[rank])
        return set_error(comm, hipcommInvalidArgument,
                         "rank %u: %s: sendcounts[%u] is %llu and recvcounts[%u] is %llu, both of this rank itself",
                         rank, operations[call.operation].name, rank, (unsigned long long)sendcounts[rank], rank,
                         (unsigned long long)recvcounts[rank]);
    if ((sent.most && !sendbuf) || (received.most && !recvbuf))
        return set_error(comm, hipcommInvalidArgument, "rank %u: %s: %s is NULL", rank,
                         operations[call.operation].name, sent.most && !sendbuf ? "sendbuf" : "recvbuf");
    return run(comm, &call, &sent, &received, stream);
}
