#include "failure.h"

#include <stdarg.h>
#include <stdio.h>

#include "../abi/slabs.h"
#include "tables.h"

static _Thread_local char thread_error[1024];

hipcommResult_t set_error(hipcommComm_t comm, hipcommResult_t result, const char* format, ...) {
    char* buffer = comm ? comm->error : thread_error;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(buffer, sizeof thread_error, format, arguments);
    va_end(arguments);
    return result;
}

hipcommResult_t no_comm(void) {
    return set_error(NULL, hipcommInvalidArgument, "comm is NULL or no communicator: it may have been closed");
}

hipcommResult_t hip_error(hipcommComm_t comm, const char* function, hipError_t error) {
    return set_error(comm, hipcommPlatformError, "rank %u: %s failed with %s (%d): %s", comm->args.rank, function,
                     comm->hip.GetErrorName(error), (int)error, comm->hip.GetErrorString(error));
}

/* Asked here, for enter_stream() need not have asked. What does not know its stream was not to be captured, and the
 * default stream cannot be. */
bool is_captured(hipcommComm_t comm, hipStream_t stream) {
    hipStreamCaptureStatus status = hipStreamCaptureStatusNone;
    const bool asked = stream && comm->hip.StreamIsCapturing(stream, &status) == hipSuccess;
    return asked && status != hipStreamCaptureStatusNone;
}

hipcommResult_t hip_error_in_call(hipcommComm_t comm, const char* function, hipError_t error, hipStream_t stream) {
    const hipcommResult_t result = hip_error(comm, function, error);
    if (comm->args.world > 1 && !is_captured(comm, stream)) hipcommCommAbort(comm, result, -1, comm->error);
    return result;
}

const char* hipcommGetLastError(hipcommComm_t comm) { return is_live(comm) ? comm->error : thread_error; }

/* ---- failure ------------------------------------------------------------------------------------- */

hipcommResult_t hipcommCommAbort(hipcommComm_t comm, hipcommResult_t result, int peer, const char* message) {
    if (!is_live(comm) || !message || result == hipcommSuccess) return hipcommInvalidArgument;
    int unclaimed = 0;
    if (!atomic_compare_exchange_strong(&comm->failure_claim, &unclaimed, 1)) return hipcommSuccess;
    snprintf(comm->failure, sizeof comm->failure, "%s", message);
    comm->failed_peer = peer;
    atomic_store_explicit(&comm->failed, (int)result, memory_order_release);
    /* after the message: a thread that sees the word finds the reason */
    __atomic_store_n(&comm->status->abort, peer < 0 ? HIPCOMM_ABORT_JOB : 1u + (uint32_t)peer, __ATOMIC_RELEASE);
    return hipcommSuccess;
}

/* "all_reduce (call 3, one_shot)"; send and recv count the messages of their channel. */
static void describe_fault(const hipcommStatus* status, char* text, size_t size) {
    const bool is_message = operation_row(status->operation)->bytes == kBytesMessage;
    snprintf(text, size, "%s (%s %u, %s)", operation_row(status->operation)->name, is_message ? "message" : "call",
             status->epoch - HIPCOMM_FIRST_EPOCH + 1, algorithm_name(status->algorithm));
}

/* Whom a kernel was waiting for: a rank, or, where blocks begin in groups (kernels/staged/stagger.h), itself (-1). */
static int awaited_rank(hipcommComm_t comm) {
    return comm->status->peer == comm->args.rank ? -1 : (int)comm->status->peer;
}
static void describe_awaited(hipcommComm_t comm, char* text, size_t size) {
    if (awaited_rank(comm) < 0)
        snprintf(text, size, "blocks of its own kernel (does another program keep the device busy?)");
    else
        snprintf(text, size, "rank %d", awaited_rank(comm));
}

/* Turn a time-out that a kernel has recorded into the communicator's failure. */
static void adopt_fault(hipcommComm_t comm) {
    const hipcommStatus* status = comm->status;
    char what[96], awaited[96], message[512];
    describe_fault(status, what, sizeof what);
    describe_awaited(comm, awaited, sizeof awaited);
    snprintf(message, sizeof message,
             "rank %u: %s waited %.3g s for %s, which did not come; HIPCOMM_TIMEOUT sets how long to wait",
             comm->args.rank, what, (double)status->waited_ticks / comm->ticks_per_second, awaited);
    hipcommCommAbort(comm, hipcommPeerTimeout, awaited_rank(comm), message);
}

/* The same for a rank that was waited for, and that makes no more calls. */
static void adopt_leaving(hipcommComm_t comm) {
    char what[96], message[512];
    describe_fault(comm->status, what, sizeof what);
    snprintf(message, sizeof message, "rank %u: %s was waiting for rank %u, which makes no more calls (it has closed "
             "the communicator, or its program has ended)", comm->args.rank, what, comm->status->peer);
    hipcommCommAbort(comm, hipcommPeerDied, (int)comm->status->peer, message);
}

/* The same for a peer that makes another call. */
static void adopt_mismatch(hipcommComm_t comm) {
    const hipcommStatus* status = comm->status;
    char message[512], what[96];
    describe_fault(status, what, sizeof what);
    if (status->peer_algorithm == status->algorithm)
        snprintf(message, sizeof message,
                 "rank %u: %s is another call on rank %u: of another operation, dtype, reduction, root, count or layout; "
                 "HIPCOMM_CHECK=1 says what differs",
                 comm->args.rank, what, status->peer);
    else snprintf(message, sizeof message,
             "rank %u: %s (call %u) runs as %s here and as %s on rank %u: the ranks' calls differ, or their "
             "buffers are registered memory on some ranks only",
             comm->args.rank, operation_row(status->operation)->name, status->epoch - HIPCOMM_FIRST_EPOCH + 1,
             algorithm_name(status->algorithm), algorithm_name(status->peer_algorithm), status->peer);
    hipcommCommAbort(comm, hipcommCallMismatch, (int)status->peer, message);
}

/* The same for a message that is not what its receiver expects. */
static void adopt_lengths(hipcommComm_t comm) {
    const hipcommStatus* status = comm->status;
    const bool is_sender = status->operation == hipcommOpSend;
    const uint32_t rank = comm->args.rank, peer = status->peer;
    const uint64_t most = HIPCOMM_MAX_MESSAGE_BYTES, sent = status->sent_bytes, expected = status->expected_bytes;
    char what[96], message[512];
    describe_fault(status, what, sizeof what);
    const uint32_t sent_dtype = (uint32_t)(sent >> HIPCOMM_MESSAGE_DTYPE_SHIFT);
    const uint32_t expected_dtype = (uint32_t)(expected >> HIPCOMM_MESSAGE_DTYPE_SHIFT);
    char dtypes[2][32] = {"", ""};
    if (sent_dtype != expected_dtype) {
        snprintf(dtypes[0], sizeof dtypes[0], " of %s", dtype_name(sent_dtype));
        snprintf(dtypes[1], sizeof dtypes[1], " of %s", dtype_name(expected_dtype));
    }
    snprintf(message, sizeof message, "rank %u: %s: rank %u sends %llu bytes%s, rank %u expects %llu%s", rank, what,
             is_sender ? rank : peer, (unsigned long long)(sent & most), dtypes[0], is_sender ? peer : rank,
             (unsigned long long)(expected & most), dtypes[1]);
    hipcommCommAbort(comm, hipcommCallMismatch, (int)peer, message);
}

/* "all_reduce(count 100, float32, sum)" */
static void describe_call(const hipcommCheckedCall* side, char* text, size_t size) {
    const Operation* operation = operation_row(side->call & 0xff);
    const hipcommDataType_t dtype = side->call >> 8 & 0xff;
    const hipcommRedOp_t op = side->call >> 16 & 0xff;
    int used = snprintf(text, size, "%s(", operation->name);
    if (operation->bytes != kBytesNone) {
        if (operation->compared == kCompareCountAndRows && side->sent != side->count)
            used += snprintf(text + used, size - used, "count %llu in rows of %llu", (unsigned long long)side->count,
                             (unsigned long long)side->sent);
        else if (operation->compared == kComparePairs || operation->compared == kCompareCountAndPairs)
            used += snprintf(text + used, size - used, "%llu bytes to the other, %llu bytes from it",
                             (unsigned long long)side->sent, (unsigned long long)side->received);
        else
            used += snprintf(text + used, size - used, "count %llu", (unsigned long long)side->count);
        /* hipcommCommSetMemoryOrder(), from Python: the dimensions, a hexadecimal digit each, and a hash of the extents */
        if (operation->compared == kCompareCount && side->sent)
            used += snprintf(text + used, size - used, " in memory order %x of shape #%x", (uint32_t)side->sent,
                             (uint32_t)(side->sent >> 32));
        used += snprintf(text + used, size - used, ", %s", dtype_name(dtype));
        if (operation->reduces) used += snprintf(text + used, size - used, ", %s", redop_name(op));
        if (operation->root) used += snprintf(text + used, size - used, ", root %u", (uint32_t)(side->call >> 24 & 0xff));
    }
    snprintf(text + used, size - used, ")");
}

/* The same for calls that the ranks have compared. */
static void adopt_differing_calls(hipcommComm_t comm) {
    const hipcommStatus* status = comm->status;
    char first[160], second[160], message[512];
    describe_call(&status->calls[0], first, sizeof first);
    describe_call(&status->calls[1], second, sizeof second);
    const hipcommCheckedCall *ours = &status->calls[0], *theirs = &status->calls[1];
    const bool in_details = ours->call != theirs->call && (uint32_t)ours->call == (uint32_t)theirs->call;
    snprintf(message, sizeof message, "rank %u: call %llu differs between ranks: rank %u calls %s, rank %u calls %s%s",
             comm->args.rank, (unsigned long long)status->checked_calls, status->ranks[0], first, status->ranks[1],
             second, in_details ? ", with other counts, or another eps, weight_offset, residual, weight, bias or output" : "");
    hipcommCommAbort(comm, hipcommCallMismatch, (int)status->ranks[1], message);
}

static hipcommResult_t describe_failure(hipcommComm_t comm) {
    const hipcommStatus* status = comm->status;
    const uint32_t fault = __atomic_load_n(&status->fault, __ATOMIC_ACQUIRE);
    if (fault == HIPCOMM_FAULT_TIMEOUT) adopt_fault(comm);
    if (fault == HIPCOMM_FAULT_CALLS) adopt_differing_calls(comm);
    if (fault == HIPCOMM_FAULT_MISMATCH) adopt_mismatch(comm);
    if (fault == HIPCOMM_FAULT_LENGTHS) adopt_lengths(comm);
    if (fault == HIPCOMM_FAULT_LEFT) adopt_leaving(comm);
    const int result = atomic_load_explicit(&comm->failed, memory_order_acquire);
    if (result == hipcommSuccess) /* another thread is about to write the reason */
        return set_error(comm, hipcommPeerDied, "rank %u: the communicator was aborted", comm->args.rank);
    if (fault == HIPCOMM_FAULT_ABORTED) {
        char what[96], awaited[96];
        describe_fault(status, what, sizeof what);
        describe_awaited(comm, awaited, sizeof awaited);
        return set_error(comm, (hipcommResult_t)result, "rank %u: %s was waiting for %s when the job failed: %s",
                         comm->args.rank, what, awaited, comm->failure);
    }
    return set_error(comm, (hipcommResult_t)result, "%s", comm->failure);
}

static hipcommResult_t report_failure(hipcommComm_t comm) {
    const hipcommResult_t result = describe_failure(comm);
    if (comm->on_failure && !comm->failure_is_told) {
        comm->failure_is_told = true;
        comm->on_failure(comm->session, result, hipcommCommFailedPeer(comm), comm->error);
    }
    return result;
}

hipcommResult_t check_health(hipcommComm_t comm) {
    /* abort and fault in one load, as the kernels do it */
    const uint64_t both = __atomic_load_n((const uint64_t*)(const void*)comm->status, __ATOMIC_ACQUIRE);
    return both == 0 ? hipcommSuccess : report_failure(comm);
}

hipcommResult_t hipcommCommPeerLeft(hipcommComm_t comm, int peer) {
    if (!is_live(comm)) return no_comm();
    if (peer < 0 || peer >= (int)comm->args.world)
        return set_error(comm, hipcommInvalidArgument, "rank %d is not in a world of %u", peer, comm->args.world);
    __atomic_fetch_or(&comm->status->left, 1u << peer, __ATOMIC_RELEASE);
    return hipcommSuccess;
}

hipcommResult_t hipcommCommGetAsyncError(hipcommComm_t comm) {
    return is_live(comm) ? check_health(comm) : no_comm();
}

int hipcommCommFailedPeer(hipcommComm_t comm) {
    if (!is_live(comm) || atomic_load_explicit(&comm->failed, memory_order_acquire) == hipcommSuccess) return -1;
    return comm->failed_peer;
}
