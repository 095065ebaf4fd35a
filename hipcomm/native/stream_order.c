/* The order of calls on different streams, at no cost to a program that uses only one.
 *
 * The caller may destroy a stream right after the last call on it, and a handle that has been destroyed must
 * not be touched. So the end of a call on such a stream has to be marked, by an event, before the call returns,
 * if a later call is to wait for it. An event per call costs more than everything else here together, and most programs
 * never need it. Therefore:
 *
 * - Until the program first leaves one of its own streams, nothing is marked, and a call on the same stream
 *   as the last one makes no HIP call but its launch. The default stream cannot be destroyed: leaving it is
 *   no such change, its end is marked when it is left.
 * - At that first change the host waits for the device, once in a communicator's life, because the old stream
 *   may be gone. From then on every eager call waits for the mark of the last one, and is marked if its stream is the
 *   caller's; the host never waits. The handles are not compared any more: a destroyed one may have come back as
 *   that of a new stream.
 * - hipStreamPerThread is another stream in each thread under one handle: always marked.
 * - A captured call is not ordered and leaves no trace: it runs later, wherever its graph is launched, and the
 *   launch is ordered by the caller. So `last` is the stream of the last eager call. On the short way it does
 *   not matter whether a call is captured, and nobody asks.
 *
 * On the short way a handle that has come back passes for the old stream. The driver must then be through with
 * the old one's work: docs/memory.md says so to the caller. */
#include "stream_order.h"

#include "current_device.h"
#include "failure.h"
#include "waiting.h"

static bool is_default(hipStream_t stream) { return stream == NULL || stream == hipStreamLegacy; }

static hipcommResult_t record_end(hipcommComm_t comm, hipStream_t stream) {
    const hipError_t error = comm->hip.EventRecord(comm->order.end, stream);
    return error == hipSuccess ? hipcommSuccess : hip_error_in_call(comm, "hipEventRecord", error, stream);
}

/* Let `stream` wait for the last call, which was on another one. */
static hipcommResult_t follow_last(hipcommComm_t comm, hipStream_t stream) {
    StreamOrder* order = &comm->order;
    if (is_default(order->last)) {
        const hipcommResult_t result = record_end(comm, order->last);
        if (result != hipcommSuccess) return result;
    } else if (!order->marks) {
        const hipError_t error = comm->hip.DeviceSynchronize();
        if (error != hipSuccess)
            return hip_error_in_call(comm, "hipDeviceSynchronize, for a call on another stream", error, stream);
        order->marks = true;
        return hipcommSuccess;
    }
    const hipError_t error = comm->hip.StreamWaitEvent(stream, order->end, 0);
    return error == hipSuccess ? hipcommSuccess : hip_error_in_call(comm, "hipStreamWaitEvent", error, stream);
}

/* Whether a call on `stream` comes after the last one without further ado. */
static bool comes_behind(const StreamOrder* order, hipStream_t stream) {
    if (!order->used) return true;
    return order->last == stream && (!order->marks || is_default(stream));
}

hipcommResult_t enter_stream(hipcommComm_t comm, hipStream_t stream, bool* capturing) {
    StreamOrder* order = &comm->order;
    *capturing = false;
    /* with checks, whether the call is captured decides if the host waits for the launch that compares calls */
    if (order->used && comes_behind(order, stream) && !comm->check) return hipcommSuccess;
    if (!is_default(stream)) {
        hipStreamCaptureStatus status = hipStreamCaptureStatusNone;
        const hipError_t error = comm->hip.StreamIsCapturing(stream, &status);
        if (error != hipSuccess) return hip_error_in_call(comm, "hipStreamIsCapturing", error, stream);
        *capturing = status != hipStreamCaptureStatusNone;
    }
    if (*capturing) return hipcommSuccess;
    if (!comes_behind(order, stream)) {
        const hipcommResult_t result = follow_last(comm, stream);
        if (result != hipcommSuccess) return result;
    }
    order->last = stream;
    order->used = true;
    order->marks |= stream == hipStreamPerThread;
    return hipcommSuccess;
}

hipcommResult_t leave_stream(hipcommComm_t comm, hipStream_t stream, bool capturing) {
    if (!comm->order.marks || capturing || is_default(stream)) return hipcommSuccess;
    return record_end(comm, stream);
}

/* The default stream is the current device's. */
static hipError_t synchronize(hipcommComm_t comm, hipStream_t stream) {
    int before;
    const hipError_t error = make_current(comm, &before);
    return error == hipSuccess ? restore_current(comm, before, wait_for_stream(comm, stream)) : error;
}

hipcommResult_t hipcommStreamSynchronize(hipcommComm_t comm, hipcommStream_t stream) {
    if (!is_live(comm)) return no_comm();
    const hipError_t error = synchronize(comm, stream);
    if (error != hipSuccess) return hip_error(comm, "hipStreamSynchronize", error);
    return check_health(comm);
}
