// Stream capture: what a call does to the captures in progress, and what they do to it.
//
// A capture begins on one stream, its origin.  Another stream takes part once it waits for an event that was
// recorded inside the capture, and has to be joined to the origin by an event before the capture ends.
#pragma once

#include <atomic>
#include <utility>

#include "event.h"
#include "graph.h"
#include "stream.h"

namespace hipcomm::cpu {

// Captures in progress in the process.  While there are none, every check below is one load.
extern std::atomic<int> captures_in_progress;
inline bool is_anything_capturing() noexcept {
    return captures_in_progress.load(std::memory_order_relaxed) != 0;
}

// A call that may not happen during a capture, such as an allocation.  Refused, and the captures invalidated,
// as hipThreadExchangeStreamCaptureMode describes.
hipError_t check_unsafe_call();

// Work on the legacy stream would wait for the blocking streams of the current device, captured ones
// included.
hipError_t check_legacy_use();

// A call that needs the stream's work to be complete, such as hipStreamSynchronize.
hipError_t check_stream_use(hipStream_t handle);

// A synchronous copy or fill: legacy work of the current device, and an unsafe call.
hipError_t check_synchronous_call();

hipError_t check_device_synchronize(int device);

// Adds a node to the stream's capture.  Fails with hipErrorIllegalState where the stream is not capturing.
hipError_t record_operation(ihipStream_t& stream, hipGraphNodeType type, Operation operation);

// Events inside captures; each says whether the call has been dealt with, and how.
struct Handled {
    bool is_handled;
    hipError_t result;
};
Handled record_captured_event(ihipStream_t& stream, ihipEvent_t& event);
Handled wait_captured_event(ihipStream_t& stream, ihipEvent_t& event);

// Takes a stream that is about to vanish out of its capture, which cannot be completed any more.
void abandon_capture(ihipStream_t& stream);

// Submits work to a stream: runs it, or records it where the stream is being captured.
template <class Work>
hipError_t submit(hipStream_t handle, hipGraphNodeType type, Work&& work) {
    ihipStream_t* const stream = find_stream(handle);
    if (stream == nullptr) return hipErrorInvalidHandle;
    if (stream->is_capturing.load(std::memory_order_relaxed)) {
        return record_operation(*stream, type, Operation(std::forward<Work>(work)));
    }
    if (is_legacy(*stream) && is_anything_capturing()) {
        const hipError_t permitted = check_legacy_use();
        if (permitted != hipSuccess) return permitted;
    }
    return work();
}

}  // namespace hipcomm::cpu
