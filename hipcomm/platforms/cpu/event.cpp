// Events.  Work is complete when it is submitted, so that an event is reached when it is recorded.
#include "event.h"

#include <time.h>

#include "capture.h"
#include "device.h"
#include "error.h"
#include "handle_table.h"
#include "stream.h"

namespace hipcomm::cpu {
namespace {

constexpr unsigned kKnownFlags = hipEventBlockingSync | hipEventDisableTiming | hipEventInterprocess |
                                 hipEventDisableSystemFence | hipEventReleaseToDevice |
                                 hipEventReleaseToSystem;

HandleTable<ihipEvent_t, 65536> events;

hipError_t create(hipEvent_t* event, unsigned flags) {
    if (event == nullptr || (flags & ~kKnownFlags) != 0) return hipErrorInvalidValue;
    *event = nullptr;
    const unsigned release = flags & (hipEventReleaseToDevice | hipEventReleaseToSystem);
    if (release == (hipEventReleaseToDevice | hipEventReleaseToSystem)) return hipErrorInvalidValue;
    if ((flags & hipEventInterprocess) != 0) return hipErrorNotSupported;
    if (device_count() == 0) return hipErrorNoDevice;
    *event = events.create(flags);
    return hipSuccess;
}

hipError_t stamp(ihipEvent_t& event) {
    timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0) return hipErrorOperatingSystem;
    event.nanoseconds = static_cast<int64_t>(now.tv_sec) * 1000000000 + now.tv_nsec;
    event.state = EventState::kRecorded;
    return hipSuccess;
}

hipError_t record(hipEvent_t handle, hipStream_t stream_handle, unsigned flags) {
    ihipEvent_t* const event = events.find(handle);
    ihipStream_t* const stream = find_stream(stream_handle);
    if (event == nullptr || stream == nullptr) return hipErrorInvalidHandle;
    if ((flags & ~hipEventRecordExternal) != 0) return hipErrorInvalidValue;
    if ((flags & hipEventRecordExternal) != 0) {
        // A node that records the event anew at every replay.  The event may be gone by then.
        return submit(stream_handle, hipGraphNodeTypeEventRecord, [handle] {
            ihipEvent_t* const target = events.find(handle);
            return target == nullptr ? hipErrorInvalidHandle : stamp(*target);
        });
    }
    if (stream->is_capturing || event->state == EventState::kCaptured) {
        const Handled captured = record_captured_event(*stream, *event);
        if (captured.is_handled) return captured.result;
    }
    if (is_legacy(*stream)) {
        const hipError_t permitted = check_legacy_use();
        if (permitted != hipSuccess) return permitted;
    }
    return stamp(*event);
}

hipError_t wait(hipStream_t stream_handle, hipEvent_t handle, unsigned flags) {
    ihipStream_t* const stream = find_stream(stream_handle);
    ihipEvent_t* const event = events.find(handle);
    if (stream == nullptr || event == nullptr) return hipErrorInvalidHandle;
    if ((flags & ~hipEventWaitExternal) != 0) return hipErrorInvalidValue;
    if ((flags & hipEventWaitExternal) != 0) {
        return submit(stream_handle, hipGraphNodeTypeWaitEvent, [] { return hipSuccess; });
    }
    if (stream->is_capturing || event->state == EventState::kCaptured) {
        const Handled captured = wait_captured_event(*stream, *event);
        if (captured.is_handled) return captured.result;
    }
    return is_legacy(*stream) ? check_legacy_use() : hipSuccess;
}

// For calls that ask whether the event was reached.
hipError_t check_reached(hipEvent_t handle) {
    const ihipEvent_t* const event = events.find(handle);
    if (event == nullptr) return hipErrorInvalidHandle;
    return event->state == EventState::kCaptured ? hipErrorCapturedEvent : hipSuccess;
}

}  // namespace
}  // namespace hipcomm::cpu

using namespace hipcomm::cpu;

hipError_t hipEventCreate(hipEvent_t* event) {
    return api([&] { return create(event, hipEventDefault); });
}

hipError_t hipEventCreateWithFlags(hipEvent_t* event, unsigned int flags) {
    return api([&] { return create(event, flags); });
}

hipError_t hipEventDestroy(hipEvent_t event) {
    return api([&] {
        ihipEvent_t* const found = events.find(event);
        if (found == nullptr) return hipErrorInvalidHandle;
        return events.destroy(found) ? hipSuccess : hipErrorInvalidHandle;
    });
}

hipError_t hipEventRecord(hipEvent_t event, hipStream_t stream) {
    return api([&] { return record(event, stream, hipEventRecordDefault); });
}

hipError_t hipEventRecordWithFlags(hipEvent_t event, hipStream_t stream, unsigned int flags) {
    return api([&] { return record(event, stream, flags); });
}

hipError_t hipStreamWaitEvent(hipStream_t stream, hipEvent_t event, unsigned int flags) {
    return api([&] { return wait(stream, event, flags); });
}

hipError_t hipEventSynchronize(hipEvent_t event) {
    return api([&] { return check_reached(event); });
}

hipError_t hipEventQuery(hipEvent_t event) {
    return api([&] { return check_reached(event); });
}

hipError_t hipEventElapsedTime(float* milliseconds, hipEvent_t start, hipEvent_t stop) {
    return api([&] {
        if (milliseconds == nullptr) return hipErrorInvalidValue;
        const ihipEvent_t* const first = events.find(start);
        const ihipEvent_t* const second = events.find(stop);
        if (first == nullptr || second == nullptr) return hipErrorInvalidHandle;
        for (const ihipEvent_t* event : {first, second}) {
            if ((event->flags & hipEventDisableTiming) != 0) return hipErrorInvalidHandle;
            if (event->state == EventState::kUnrecorded) return hipErrorInvalidHandle;
            if (event->state == EventState::kCaptured) return hipErrorCapturedEvent;
        }
        const int64_t nanoseconds = second->nanoseconds - first->nanoseconds;
        *milliseconds = static_cast<float>(static_cast<double>(nanoseconds) / 1e6);
        return hipSuccess;
    });
}
