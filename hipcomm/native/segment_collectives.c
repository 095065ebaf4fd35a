/* The collectives in which every pair of ranks has a segment of its own to move: reduce_scatter, reduce,
 * all_to_all, gather, scatter, and all_gather in its less simple forms. Each says what its segments are;
 * one of two families of kernels moves them (exchange*.hip) or reduces them (reduce_*.hip). */
#include "call.h"
#include "call_check.h"
#include "call_log.h"

typedef struct SegmentCall {
    Call call;
    uint64_t plan_bytes; /* hipcommPlanRequest.bytes */
    uint64_t most_bytes; /* the longest segment */
    /* what the direct algorithm lets peers read or write, from the buffers' beginnings on; 0: nothing */
    uint64_t read_extent;
    uint64_t written_extent;
    uint64_t send_place; /* where that is; HIPCOMM_NO_PLACE if it is not registered */
    uint64_t recv_place;
    hipcommSegmentArgs args;
} SegmentCall;

static uint64_t packs_of(uint64_t bytes) { return (bytes + HIPCOMM_PACK_BYTES - 1) / HIPCOMM_PACK_BYTES; }
static uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static uint64_t max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* A call whose segments have no bytes yet. `bytes`: what the plan is made for, and the longest segment. */
static SegmentCall begin(const Call* call, uint64_t bytes) {
    SegmentCall segments = {.call = *call, .plan_bytes = bytes, .most_bytes = bytes};
    segments.args.row_bytes = UINT64_MAX; /* one row */
    return segments;
}

/* Find the buffers in registered memory, and return whether the direct algorithm can work on them. */
static bool find_places(hipcommComm_t comm, SegmentCall* segments) {
    const uint64_t read = segments->read_extent, written = segments->written_extent;
    segments->send_place = segments->recv_place = HIPCOMM_NO_PLACE;
    if (comm->regions.count == 0 || (read == 0 && written == 0)) return false;
    if (read) segments->send_place = find_place(&comm->regions, segments->call.send, read);
    if (written) segments->recv_place = find_place(&comm->regions, segments->call.recv, written);
    return (!read || segments->send_place != HIPCOMM_NO_PLACE) &&
           (!written || segments->recv_place != HIPCOMM_NO_PLACE);
}

static hipcommPlan plan_of(hipcommComm_t comm, SegmentCall* segments) {
    hipcommPlanRequest request = comm->request;
    request.registered = find_places(comm, segments);
    request.operation = segments->call.operation;
    request.dtype = segments->call.dtype;
    request.op = segments->call.op;
    request.bytes = segments->plan_bytes;
    hipcommPlan plan;
    make_plan(&request, comm->row, &plan);
    return plan;
}

/* Reductions have one count; of the others the pairs are compared as well. all_to_all_v has pairs only. */
static hipcommResult_t check_segments(hipcommComm_t comm, const SegmentCall* segments, hipStream_t stream,
                                      bool capturing) {
    const hipcommOperation_t operation = segments->call.operation;
    const bool reduces = operation == hipcommOpReduceScatter || operation == hipcommOpReduce;
    return check_peers(comm, &segments->call, operation == hipcommOpAllToAllv ? 0 : segments->plan_bytes,
                       reduces ? NULL : segments->args.segments, stream, capturing);
}

static hipcommResult_t run_planned(hipcommComm_t comm, SegmentCall* segments, const hipcommPlan* plan,
                                   hipcommStream_t stream_handle) {
    const hipStream_t stream = stream_handle;
    const Call* call = &segments->call;
    hipcommSegmentArgs* args = &segments->args;
    hipcommResult_t result = check_health(comm);
    if (result != hipcommSuccess) return result;
    if (comm->log) log_call(comm, call, segments->plan_bytes, plan);
    if (plan->algorithm == hipcommAlgorithmCopy) {
        const hipcommSegment* only = &args->segments[0];
        if (only->send_bytes == 0) return hipcommSuccess;
        return copy_alone(comm, call->send + only->send_offset, call->recv + only->recv_offset, only->send_bytes,
                          stream);
    }
    if (plan->kernel < 0 && !comm->check) return hipcommSuccess;

    bool capturing;
    result = enter_stream(comm, stream, &capturing);
    if (result == hipcommSuccess && comm->check) result = check_segments(comm, segments, stream, capturing);
    if (result != hipcommSuccess) return result;
    if (plan->kernel < 0) return leave_stream(comm, stream, capturing);

    args->common = comm->args;
    fill_args(&args->common, call, plan);
    args->common.send = call->send;
    args->common.recv = call->recv;
    args->common.bytes = segments->plan_bytes;
    args->common.send_place = segments->send_place;
    args->common.recv_place = segments->recv_place;
    if (call->operation == hipcommOpReduceScatter) args->common.root = HIPCOMM_NO_ROOT;
    args->line_bytes = plan->line_bytes;
    const uint64_t packs = packs_of(segments->most_bytes);
    args->most_packs = min_u64(packs, plan->bytes_per_launch / HIPCOMM_PACK_BYTES);
    do {
        result = launch(comm, plan, args, stream);
        if (result != hipcommSuccess) return result;
        args->first_pack += args->most_packs;
    } while (args->first_pack < packs);
    result = leave_stream(comm, stream, capturing);
    /* where launches are synchronous (the CPU platform), a failure belongs to this very call */
    return result == hipcommSuccess ? check_health(comm) : result;
}

static hipcommResult_t run_segments(hipcommComm_t comm, SegmentCall* segments, hipcommStream_t stream) {
    const hipcommPlan plan = plan_of(comm, segments);
    return run_planned(comm, segments, &plan, stream);
}

/* Rows of which not even `world` times as many can be counted. */
static hipcommResult_t check_rows(hipcommComm_t comm, hipcommOperation_t operation, uint64_t rows) {
    if (rows <= HIPCOMM_MAX_MESSAGE_BYTES / comm->args.world) return hipcommSuccess;
    return set_error(comm, hipcommInvalidArgument, "rank %u: %s: %llu rows are not possible", comm->args.rank,
                     operation_name(operation), (unsigned long long)rows);
}

/* ---- reductions ------------------------------------------------------------------------------------ */

hipcommResult_t hipcommReduceScatterRows(const void* sendbuf, void* recvbuf, size_t rows, size_t count,
                                         hipcommDataType_t dtype, hipcommRedOp_t op, hipcommComm_t comm,
                                         hipcommStream_t stream) {
    if (!comm) return no_comm();
    const uint64_t world = comm->args.world, rank = comm->args.rank;
    const Call call = {.operation = hipcommOpReduceScatter, .send = sendbuf, .recv = recvbuf,
                       .count = rows ? count : 0, .dtype = dtype, .op = op};
    hipcommResult_t result = check_rows(comm, call.operation, rows);
    if (result == hipcommSuccess) result = check_call(comm, &call, world * max_u64(rows, 1));
    if (result != hipcommSuccess) return result;
    const uint64_t row_bytes = count * dtype_size(dtype), bytes = rows * row_bytes;
    const char* in_place = rows == 1 ? call.recv - rank * bytes : NULL;
    result = check_overlap(comm, &call, in_place, world * bytes, bytes);
    if (result != hipcommSuccess) return result;

    SegmentCall segments = begin(&call, bytes);
    segments.read_extent = world * bytes;
    segments.args.row_bytes = row_bytes;
    segments.args.row_stride = world * row_bytes;
    for (uint64_t owner = 0; owner < world; ++owner)
        segments.args.segments[owner] = (hipcommSegment){.send_offset = owner * row_bytes, .send_bytes = bytes};
    return run_segments(comm, &segments, stream);
}

hipcommResult_t hipcommReduceScatter(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                                     hipcommRedOp_t op, hipcommComm_t comm, hipcommStream_t stream) {
    return hipcommReduceScatterRows(sendbuf, recvbuf, 1, count, dtype, op, comm, stream);
}

/* Small messages go to the root as they are: one hop. Larger ones are reduced by all ranks, each its
 * segment, which then go to the root: two hops, but no rank's links carry more than 2 (n - 1)/n of the
 * message, where the root's would carry n - 1 times the message. */
hipcommResult_t hipcommReduce(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                              hipcommRedOp_t op, int root, hipcommComm_t comm, hipcommStream_t stream) {
    if (!comm) return no_comm();
    const bool is_root = (int)comm->args.rank == root;
    const Call call = {.operation = hipcommOpReduce, .send = sendbuf, .recv = is_root ? recvbuf : (char*)sendbuf,
                       .count = count, .dtype = dtype, .op = op, .root = root};
    hipcommResult_t result = check_call(comm, &call, 1);
    if (result != hipcommSuccess) return result;
    const uint64_t world = comm->args.world, bytes = count * dtype_size(dtype);
    result = check_overlap(comm, &call, call.recv, bytes, bytes);
    if (result != hipcommSuccess) return result;

    SegmentCall segments = begin(&call, bytes);
    const hipcommPlan plan = plan_of(comm, &segments);
    if (plan.algorithm == hipcommAlgorithmPipelined)
        segments.most_bytes = (packs_of(bytes) + world - 1) / world * HIPCOMM_PACK_BYTES;
    for (uint64_t owner = 0, begin = 0; owner < world; ++owner, begin += segments.most_bytes) {
        if (plan.algorithm != hipcommAlgorithmPipelined) begin = (int)owner == root ? 0 : bytes;
        const uint64_t length = begin < bytes ? min_u64(segments.most_bytes, bytes - begin) : 0;
        segments.args.segments[owner] = (hipcommSegment){begin, length, begin, length};
    }
    return run_planned(comm, &segments, &plan, stream);
}

/* ---- equal parts -----------------------------------------------------------------------------------*/

hipcommResult_t hipcommAllToAll(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                                hipcommComm_t comm, hipcommStream_t stream) {
    if (!comm) return no_comm();
    const uint64_t world = comm->args.world;
    const Call call = {.operation = hipcommOpAllToAll, .send = sendbuf, .recv = recvbuf, .count = count,
                       .dtype = dtype};
    hipcommResult_t result = check_call(comm, &call, world);
    if (result != hipcommSuccess) return result;
    const uint64_t bytes = count * dtype_size(dtype);
    result = check_overlap(comm, &call, NULL, world * bytes, world * bytes);
    if (result != hipcommSuccess) return result;

    SegmentCall segments = begin(&call, bytes);
    segments.written_extent = world * bytes;
    for (uint64_t peer = 0; peer < world; ++peer)
        segments.args.segments[peer] = (hipcommSegment){peer * bytes, bytes, peer * bytes, bytes};
    return run_segments(comm, &segments, stream);
}

hipcommResult_t hipcommGather(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                              int root, hipcommComm_t comm, hipcommStream_t stream) {
    if (!comm) return no_comm();
    const uint64_t world = comm->args.world;
    const bool is_root = (int)comm->args.rank == root;
    const Call call = {.operation = hipcommOpGather, .send = sendbuf, .recv = is_root ? recvbuf : (char*)sendbuf,
                       .count = count, .dtype = dtype, .root = root};
    hipcommResult_t result = check_call(comm, &call, world);
    if (result != hipcommSuccess) return result;
    const uint64_t bytes = count * dtype_size(dtype);
    if (is_root) result = check_overlap(comm, &call, call.recv + root * bytes, bytes, world * bytes);
    if (result != hipcommSuccess) return result;

    SegmentCall segments = begin(&call, bytes);
    segments.args.segments[root].send_bytes = bytes;
    for (uint64_t peer = 0; is_root && peer < world; ++peer) {
        segments.args.segments[peer].recv_offset = peer * bytes;
        segments.args.segments[peer].recv_bytes = bytes;
    }
    return run_segments(comm, &segments, stream);
}

hipcommResult_t hipcommScatter(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                               int root, hipcommComm_t comm, hipcommStream_t stream) {
    if (!comm) return no_comm();
    const uint64_t world = comm->args.world;
    const bool is_root = (int)comm->args.rank == root;
    const Call call = {.operation = hipcommOpScatter, .send = is_root ? sendbuf : recvbuf, .recv = recvbuf,
                       .count = count, .dtype = dtype, .root = root};
    hipcommResult_t result = check_call(comm, &call, world);
    if (result != hipcommSuccess) return result;
    const uint64_t bytes = count * dtype_size(dtype);
    if (is_root) result = check_overlap(comm, &call, call.recv - root * bytes, world * bytes, bytes);
    if (result != hipcommSuccess) return result;

    SegmentCall segments = begin(&call, bytes);
    segments.args.segments[root].recv_bytes = bytes;
    for (uint64_t peer = 0; is_root && peer < world; ++peer) {
        segments.args.segments[peer].send_offset = peer * bytes;
        segments.args.segments[peer].send_bytes = bytes;
    }
    return run_segments(comm, &segments, stream);
}

hipcommResult_t hipcommAllGatherRows(const void* sendbuf, void* recvbuf, size_t rows, size_t count,
                                     hipcommDataType_t dtype, hipcommComm_t comm, hipcommStream_t stream) {
    if (rows <= 1) return hipcommAllGather(sendbuf, recvbuf, rows * count, dtype, comm, stream);
    if (!comm) return no_comm();
    const uint64_t world = comm->args.world;
    const Call call = {.operation = hipcommOpAllGatherRows, .send = sendbuf, .recv = recvbuf, .count = count,
                       .dtype = dtype};
    hipcommResult_t result = check_rows(comm, call.operation, rows);
    if (result == hipcommSuccess) result = check_call(comm, &call, world * rows);
    if (result != hipcommSuccess) return result;
    const uint64_t row_bytes = count * dtype_size(dtype), bytes = rows * row_bytes;
    result = check_overlap(comm, &call, NULL, bytes, world * bytes);
    if (result != hipcommSuccess) return result;

    SegmentCall segments = begin(&call, bytes);
    segments.written_extent = world * bytes;
    segments.args.row_bytes = row_bytes;
    segments.args.row_stride = world * row_bytes;
    for (uint64_t peer = 0; peer < world; ++peer)
        segments.args.segments[peer] = (hipcommSegment){0, bytes, peer * row_bytes, bytes};
    return run_segments(comm, &segments, stream);
}

/* ---- unequal parts ---------------------------------------------------------------------------------*/

/* One side of a call with counts, in bytes. */
typedef struct Parts {
    uint64_t offset[HIPCOMM_MAX_RANKS];
    uint64_t bytes[HIPCOMM_MAX_RANKS];
    uint64_t begin, end; /* of all parts that are not empty */
    uint64_t most;
} Parts;

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
        parts->most = max_u64(parts->most, parts->bytes[rank]);
        if (counts[rank] == 0) continue;
        parts->begin = min_u64(parts->begin, parts->offset[rank]);
        parts->end = max_u64(parts->end, next * element);
    }
    if (parts->end == 0) parts->begin = 0;
    return true;
}

static hipcommResult_t refuse_counts(hipcommComm_t comm, hipcommOperation_t operation, const char* which) {
    return set_error(comm, hipcommInvalidArgument, "rank %u: %s: %s are NULL or not possible", comm->args.rank,
                     operation_name(operation), which);
}

hipcommResult_t hipcommAllGatherv(const void* sendbuf, void* recvbuf, const size_t* counts, const size_t* displs,
                                  hipcommDataType_t dtype, hipcommComm_t comm, hipcommStream_t stream) {
    if (!comm) return no_comm();
    const uint32_t world = comm->args.world, rank = comm->args.rank;
    Call call = {.operation = hipcommOpAllGatherv, .send = sendbuf, .recv = recvbuf, .dtype = dtype};
    hipcommResult_t result = check_call(comm, &call, 1); /* the dtype, before it is used */
    if (result != hipcommSuccess) return result;
    Parts parts;
    if (!measure(counts, displs, dtype_size(dtype), world, &parts)) return refuse_counts(comm, call.operation, "counts");
    const uint64_t own = parts.bytes[rank];
    if (parts.most && (!recvbuf || (own && !sendbuf)))
        return set_error(comm, hipcommInvalidArgument, "rank %u: %s: %s is NULL", rank,
                         operation_name(call.operation), recvbuf ? "sendbuf" : "recvbuf");
    Call extent = call;
    extent.recv += parts.begin;
    result = check_overlap(comm, &extent, call.recv + parts.offset[rank], own, parts.end - parts.begin);
    if (result != hipcommSuccess) return result;

    SegmentCall segments = begin(&call, parts.most);
    segments.written_extent = parts.end;
    for (uint32_t peer = 0; peer < world; ++peer)
        segments.args.segments[peer] = (hipcommSegment){0, own, parts.offset[peer], parts.bytes[peer]};
    return run_segments(comm, &segments, stream);
}

hipcommResult_t hipcommAllToAllv(const void* sendbuf, const size_t* sendcounts, const size_t* senddispls,
                                 void* recvbuf, const size_t* recvcounts, const size_t* recvdispls,
                                 hipcommDataType_t dtype, hipcommComm_t comm, hipcommStream_t stream) {
    if (!comm) return no_comm();
    const uint32_t world = comm->args.world, rank = comm->args.rank;
    const Call call = {.operation = hipcommOpAllToAllv, .send = sendbuf, .recv = recvbuf, .dtype = dtype};
    hipcommResult_t result = check_call(comm, &call, 1);
    if (result != hipcommSuccess) return result;
    Parts sent, received;
    if (!measure(sendcounts, senddispls, dtype_size(dtype), world, &sent))
        return refuse_counts(comm, call.operation, "sendcounts");
    if (!measure(recvcounts, recvdispls, dtype_size(dtype), world, &received))
        return refuse_counts(comm, call.operation, "recvcounts");
    if (sendcounts[rank] != recvcounts[rank])
        return set_error(comm, hipcommInvalidArgument,
                         "rank %u: %s: sendcounts[%u] is %llu and recvcounts[%u] is %llu, both of this rank itself",
                         rank, operation_name(call.operation), rank, (unsigned long long)sendcounts[rank], rank,
                         (unsigned long long)recvcounts[rank]);
    if ((sent.most && !sendbuf) || (received.most && !recvbuf))
        return set_error(comm, hipcommInvalidArgument, "rank %u: %s: %s is NULL", rank,
                         operation_name(call.operation), sent.most && !sendbuf ? "sendbuf" : "recvbuf");
    Call extent = call;
    extent.send += sent.begin;
    extent.recv += received.begin;
    result = check_overlap(comm, &extent, NULL, sent.end - sent.begin, received.end - received.begin);
    if (result != hipcommSuccess) return result;

    SegmentCall segments = begin(&call, max_u64(sent.most, received.most));
    for (uint32_t peer = 0; peer < world; ++peer)
        segments.args.segments[peer] =
            (hipcommSegment){sent.offset[peer], sent.bytes[peer], received.offset[peer], received.bytes[peer]};
    return run_segments(comm, &segments, stream);
}
