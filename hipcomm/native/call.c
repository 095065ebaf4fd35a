/* Nothing here allocates, blocks or asks the device. */
#include "call.h"

#include "call_check.h"
#include "call_log.h"
#include "current_device.h"
#include "group.h"
#include "kernel_table.h"

static uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static uint64_t packs_of(uint64_t bytes) { return (bytes + HIPCOMM_PACK_BYTES - 1) / HIPCOMM_PACK_BYTES; }

/* What run() knows of a call, besides what its caller does. */
typedef struct Message {
    const Call* call;
    const Operation* operation;
    const Parts *sent, *received; /* or NULL */
    uint64_t world, rank;
    bool is_root;
    uint64_t row_bytes, part_bytes; /* of an equal part */
    uint64_t bytes;                 /* hipcommPlanRequest.bytes */
} Message;

static Message describe(hipcommComm_t comm, const Call* call, const Parts* sent, const Parts* received) {
    const Operation* operation = &operations[call->operation];
    const uint64_t row_bytes = call->count * dtype_size(call->dtype);
    Message message = {
        .call = call,
        .operation = operation,
        .sent = sent,
        .received = received,
        .world = comm->args.world,
        .rank = comm->args.rank,
        .is_root = call->root == (int)comm->args.rank,
        .row_bytes = row_bytes,
        .part_bytes = row_bytes * call->rows,
    };
    message.bytes = message.part_bytes;
    if (received) message.bytes = received->most;
    if (sent && sent->most > message.bytes) message.bytes = sent->most;
    return message;
}

/* Bytes of a buffer, from its beginning on, in which its parts lie. */
static uint64_t extent(const Message* message, enum PartsOf number, const Parts* parts) {
    if (parts) return parts->end;
    if (number == kPartsEach) return message->world * message->part_bytes;
    if (message->call->is_partial) return message->part_bytes / dtype_size(message->call->dtype) * sizeof(float);
    if (message->received) return message->received->bytes[message->rank];
    return number == kPartsOne ? message->part_bytes : 0;
}

/* Where the part of a rank begins in a buffer. */
static uint64_t offset(const Message* message, enum PartsOf number, const Parts* parts, uint64_t rank) {
    if (parts) return parts->offset[rank];
    return number == kPartsEach ? rank * message->row_bytes : 0;
}

/* What this rank sends to one rank, and receives from it. Of a reduction that is the part which that rank reduces. */
static hipcommSegment segment_of(const Message* message, uint64_t peer) {
    const Operation* operation = message->operation;
    const bool is_roots = peer == (uint64_t)message->call->root;
    const bool sends = operation->root == kRootNone || (operation->root == kRootSends ? message->is_root : is_roots);
    const bool receives = operation->root == kRootNone || (operation->root == kRootSends ? is_roots : message->is_root);
    hipcommSegment segment = {0};
    if (sends) {
        segment.send_offset = offset(message, operation->sent, message->sent, peer);
        segment.send_bytes = message->part_bytes;
        if (message->received) segment.send_bytes = message->received->bytes[message->rank];
        if (message->sent) segment.send_bytes = message->sent->bytes[peer];
    }
    if (receives) {
        segment.recv_offset = offset(message, operation->received, message->received, peer);
        segment.recv_bytes = message->received ? message->received->bytes[peer] : message->part_bytes;
    }
    return segment;
}

/* ---- argument checks ------------------------------------------------------------------------------------------- */

static hipcommResult_t check_peer(hipcommComm_t comm, const Call* call, const char* name) {
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
    return hipcommSuccess;
}

hipcommResult_t check_call(hipcommComm_t comm, const Call* call) {
    const Operation* operation = &operations[call->operation];
    const char* name = operation->name;
    const unsigned rank = comm->args.rank;
    if (operation->bytes == kBytesMessage) {
        const hipcommResult_t result = check_peer(comm, call, name);
        if (result != hipcommSuccess) return result;
    }
    const bool has_parts = operation->sent == kPartsEach || operation->received == kPartsEach;
    uint64_t parts = has_parts ? comm->args.world : 1;
    if (call->rows > HIPCOMM_MAX_MESSAGE_BYTES / parts)
        return set_error(comm, hipcommInvalidArgument, "rank %u: %s: %llu rows are not possible", rank, name,
                         (unsigned long long)call->rows);
    if (call->rows) parts *= call->rows;
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

static bool is_in_place(const Message* message) {
    const Call* call = message->call;
    if (call->rows > 1 || call->is_partial) return false;
    const uint64_t sent = offset(message, message->operation->sent, message->sent, message->rank);
    const uint64_t received = offset(message, message->operation->received, message->received, message->rank);
    switch (message->operation->in_place) {
        case kInPlaceSame: return call->send == call->recv;
        case kInPlaceInReceived: return call->send == call->recv + received;
        case kInPlaceInSent: return call->recv == call->send + sent;
        case kInPlaceNever: break;
    }
    return false;
}

static hipcommResult_t check_end(hipcommComm_t comm, const Message* message, const char* name, const char* begin,
                                 uint64_t bytes) {
    if (bytes <= UINTPTR_MAX - (uintptr_t)begin) return hipcommSuccess;
    return set_error(comm, hipcommInvalidArgument, "rank %u: %s: %s %p (%llu bytes) goes past the end of memory",
                     comm->args.rank, message->operation->name, name, (const void*)begin, (unsigned long long)bytes);
}

/* The buffers may be in place, or disjoint; and end where they can end. */
static hipcommResult_t check_overlap(hipcommComm_t comm, const Message* message) {
    const Operation* operation = message->operation;
    if (operation->root && !message->is_root) { /* one buffer is not used */
        const bool receives = operation->root == kRootSends;
        const uint64_t bytes = receives ? extent(message, operation->received, message->received)
                                        : extent(message, operation->sent, message->sent);
        return check_end(comm, message, receives ? "recvbuf" : "sendbuf", message->call->send, bytes);
    }
    const uint64_t send_begin = message->sent ? message->sent->begin : 0;
    const uint64_t recv_begin = message->received ? message->received->begin : 0;
    const char* send = message->call->send + send_begin;
    const char* recv = message->call->recv + recv_begin;
    const uint64_t send_bytes = extent(message, operation->sent, message->sent) - send_begin;
    const uint64_t recv_bytes = extent(message, operation->received, message->received) - recv_begin;
    hipcommResult_t result = check_end(comm, message, "sendbuf", send, send_bytes);
    if (result == hipcommSuccess) result = check_end(comm, message, "recvbuf", recv, recv_bytes);
    if (result != hipcommSuccess) return result;
    if (!(send < recv + recv_bytes && recv < send + send_bytes) || is_in_place(message)) return hipcommSuccess;
    return set_error(comm, hipcommInvalidArgument,
                     "rank %u: %s: sendbuf %p (%llu bytes) and recvbuf %p (%llu bytes) overlap without being in "
                     "place",
                     comm->args.rank, operation->name, (const void*)send, (unsigned long long)send_bytes,
                     (const void*)recv, (unsigned long long)recv_bytes);
}

/* ---- the way of every call ------------------------------------------------------------------------------------- */

/* Say where the peers find the buffers, and return whether that is enough for the direct algorithm. */
static bool find_places(hipcommComm_t comm, const Message* message, hipcommKernelArgs* args) {
    const Operation* operation = message->operation;
    if (comm->regions.count == 0 || (!operation->reads && !operation->writes)) return false;
    args->send_place = args->recv_place = HIPCOMM_NO_PLACE;
    if (operation->reads)
        args->send_place =
            find_place(&comm->regions, message->call->send, extent(message, operation->sent, message->sent));
    if (operation->writes)
        args->recv_place =
            find_place(&comm->regions, message->call->recv, extent(message, operation->received, message->received));
    return (!operation->reads || args->send_place != HIPCOMM_NO_PLACE) &&
           (!operation->writes || args->recv_place != HIPCOMM_NO_PLACE);
}

/* Launch as often as the plan says; a launch takes a piece of the message. */
static hipcommResult_t launch_pieces(hipcommComm_t comm, const Message* message, const hipcommPlan* plan,
                                     hipcommKernelArgs* args, hipStream_t stream) {
    const Call* call = message->call;
    args->recv_stride = message->bytes;
    uint64_t done = 0;
    do {
        args->send = call->send ? call->send + done : NULL;
        args->recv = call->recv ? call->recv + done : NULL;
        args->bytes = min_u64(message->bytes - done, plan->bytes_per_launch);
        const hipcommResult_t result = launch(comm, plan, args, stream);
        if (result != hipcommSuccess) return result;
        done += args->bytes;
    } while (done < message->bytes);
    return hipcommSuccess;
}

/* A small message goes to the root as it is: one hop. A larger one is reduced by all ranks, each its segment, which
 * then go to the root: two hops, but no rank's links carry more than 2 (n - 1)/n of the message, where the root's would
 * carry n - 1 times the message. */
static uint64_t cut_for_root(const Message* message, const hipcommPlan* plan, hipcommSegment* segments) {
    const bool in_segments = plan->algorithm == hipcommAlgorithmPipelined;
    const uint64_t bytes = message->bytes;
    const uint64_t most =
        in_segments ? (packs_of(bytes) + message->world - 1) / message->world * HIPCOMM_PACK_BYTES : bytes;
    for (uint64_t owner = 0; owner < message->world; ++owner) {
        const uint64_t at_root = owner == (uint64_t)message->call->root ? 0 : bytes;
        const uint64_t begin = in_segments ? owner * most : at_root;
        const uint64_t length = begin < bytes ? min_u64(most, bytes - begin) : 0;
        segments[owner] = (hipcommSegment){begin, length, begin, length};
    }
    return most;
}

/* The same for kernels that are told what to move between each pair; a launch takes a piece of each segment. */
static hipcommResult_t launch_segments(hipcommComm_t comm, const Message* message, const hipcommPlan* plan,
                                       const hipcommKernelArgs* common, hipStream_t stream) {
    const Operation* operation = message->operation;
    hipcommSegmentArgs args = {.common = *common, .line_bytes = plan->line_bytes, .row_bytes = UINT64_MAX};
    args.common.send = message->call->send;
    args.common.recv = message->call->recv;
    args.common.bytes = message->bytes;
    if (operation->reduces && !operation->root) args.common.root = HIPCOMM_NO_ROOT;
    uint64_t longest = message->bytes;
    if (operation->reduces && operation->root)
        longest = cut_for_root(message, plan, args.segments);
    else
        for (uint64_t peer = 0; peer < message->world; ++peer) args.segments[peer] = segment_of(message, peer);
    if (message->call->rows > 1) {
        args.row_bytes = message->row_bytes;
        args.row_stride = message->world * message->row_bytes;
    }
    const uint64_t packs = packs_of(longest);
    args.most_packs = min_u64(packs, plan->bytes_per_launch / HIPCOMM_PACK_BYTES);
    do {
        const hipcommResult_t result = launch(comm, plan, &args, stream);
        if (result != hipcommSuccess) return result;
        args.first_pack += args.most_packs;
    } while (args.first_pack < packs);
    return hipcommSuccess;
}

static hipcommResult_t compare_calls(hipcommComm_t comm, const Message* message, hipStream_t stream, bool capturing) {
    hipcommSegment segments[HIPCOMM_MAX_RANKS];
    const bool in_rows = message->operation->compared == kCompareCountAndRows;
    for (uint64_t peer = 0; peer < message->world; ++peer)
        segments[peer] = in_rows ? (hipcommSegment){.send_bytes = message->call->count, .recv_bytes = message->call->count}
                                 : segment_of(message, peer);
    return check_peers(comm, message->call, message->bytes, segments, stream, capturing);
}

static hipcommResult_t launch_planned(hipcommComm_t comm, const Message* message, const hipcommPlan* plan,
                                      hipcommKernelArgs* args, hipStream_t stream) {
    const Call* call = message->call;
    /* the direct algorithm works in place on all ranks, as the peers read the root's result */
    if (plan->algorithm == hipcommAlgorithmDirect && message->operation->root == kRootSends) {
        const hipcommResult_t result = copy_alone(comm, call->send, call->recv, message->bytes, stream);
        if (result != hipcommSuccess) return result;
    }
    fill_args(args, call, plan);
    if (kernel_of(call->operation, plan->algorithm)->args == kArgs_hipcommSegmentArgs)
        return launch_segments(comm, message, plan, args, stream);
    return launch_pieces(comm, message, plan, args, stream);
}

static hipcommResult_t run_on_device(hipcommComm_t comm, Call* call, const Parts* sent, const Parts* received,
                                     hipStream_t stream) {
    const Message message = describe(comm, call, sent, received);
    if (message.operation->root && !message.is_root) { /* the buffer that is not used */
        if (message.operation->root == kRootSends)
            call->send = call->recv;
        else
            call->recv = (char*)call->send;
    }
    hipcommResult_t result = check_call(comm, call);
    if (result == hipcommSuccess) result = check_overlap(comm, &message);
    if (result == hipcommSuccess) result = check_health(comm);
    if (result != hipcommSuccess) return result;

    hipcommPlanRequest request = comm->request;
    request.operation = call->operation;
    request.dtype = call->dtype;
    request.op = call->op;
    request.bytes = message.bytes;
    hipcommKernelArgs args = comm->args;
    request.registered = find_places(comm, &message, &args) && !call->is_partial;
    if (call->is_partial) request.algorithm = hipcommAlgorithmPipelined;
    hipcommPlan plan;
    make_plan(&request, comm->row, &plan);
    if (call->is_partial && plan.kernel >= 0) plan.kernel = partial_kernel_index(&request);
    if (comm->log) log_call(comm, call, request.bytes, &plan);
    if (plan.algorithm == hipcommAlgorithmCopy) {
        const hipcommSegment own = segment_of(&message, 0);
        if (own.send_bytes == 0) return hipcommSuccess;
        return copy_alone(comm, call->send + own.send_offset, call->recv + own.recv_offset, own.send_bytes, stream);
    }
    if (message.operation->bytes == kBytesMessage && is_in_group()) {
        fill_args(&args, call, &plan);
        args.send = call->send;
        args.recv = call->recv;
        args.bytes = args.recv_stride = message.bytes;
        return add_to_group(comm, &plan, &args, stream);
    }
    const bool compares = comm->check && message.operation->compared != kCompareNothing;
    if (plan.kernel < 0 && !compares) return hipcommSuccess;

    bool capturing;
    result = enter_stream(comm, stream, &capturing);
    if (result == hipcommSuccess && compares) result = compare_calls(comm, &message, stream, capturing);
    if (result == hipcommSuccess && plan.kernel >= 0) result = launch_planned(comm, &message, &plan, &args, stream);
    if (result == hipcommSuccess) result = leave_stream(comm, stream, capturing);
    /* where launches are synchronous (the CPU platform), a failure belongs to this very call */
    return result == hipcommSuccess && plan.kernel >= 0 ? check_health(comm) : result;
}

hipcommResult_t run(hipcommComm_t comm, Call* call, const Parts* sent, const Parts* received, hipcommStream_t stream) {
    int before;
    const hipcommResult_t result = enter_call(comm, stream, &before);
    if (result != hipcommSuccess) return result;
    return leave_call(comm, stream, before, run_on_device(comm, call, sent, received, stream));
}
