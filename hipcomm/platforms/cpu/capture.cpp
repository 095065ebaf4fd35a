// Stream capture.
#include "capture.h"

#include <algorithm>
#include <mutex>
#include <set>
#include <thread>

#include "device.h"
#include "error.h"

namespace hipcomm::cpu {

struct Capture {
    unsigned long long id;
    hipStreamCaptureMode mode;
    std::thread::id owner;
    hipStream_t origin;
    hipGraph_t graph;                  // null once the capture has ended
    std::vector<hipStream_t> members;  // the origin, and what joined it
    bool is_invalidated = false;

    bool is_in_progress() const { return graph != nullptr; }
};

std::atomic<int> captures_in_progress{0};

namespace {

using CapturePointer = std::shared_ptr<Capture>;

// One lock for all of capture's state: streams' and events' parts of it included.
std::mutex& mutex() {
    static std::mutex& lock = *new std::mutex;  // never destroyed: threads may outlive the library's statics
    return lock;
}

std::vector<CapturePointer>& captures() {
    static auto& list = *new std::vector<CapturePointer>;
    return list;
}

unsigned long long last_id = 0;
thread_local hipStreamCaptureMode thread_mode = hipStreamCaptureModeGlobal;

bool is_mode(hipStreamCaptureMode mode) {
    return mode == hipStreamCaptureModeGlobal || mode == hipStreamCaptureModeThreadLocal ||
           mode == hipStreamCaptureModeRelaxed;
}

void join(ihipStream_t& stream, const CapturePointer& capture) {
    capture->members.push_back(&stream);
    stream.capture = capture;
    stream.is_capturing = true;
}

// Ends a capture and releases its streams.  The graph goes to the caller.
hipGraph_t finish(const CapturePointer& capture) {
    for (const hipStream_t stream : capture->members) {
        stream->is_capturing = false;
        stream->frontier.clear();
        stream->capture.reset();
    }
    capture->members.clear();
    auto& list = captures();
    list.erase(std::remove(list.begin(), list.end(), capture), list.end());
    captures_in_progress = static_cast<int>(list.size());
    capture->graph->is_capturing = false;
    return std::exchange(capture->graph, nullptr);
}

void add_missing(std::vector<hipGraphNode_t>& frontier, const std::vector<hipGraphNode_t>& nodes) {
    for (const hipGraphNode_t node : nodes) {
        if (std::find(frontier.begin(), frontier.end(), node) == frontier.end()) frontier.push_back(node);
    }
}

// Has all work of the other streams been joined to the origin?
bool is_joined(const Capture& capture) {
    std::set<hipGraphNode_t> reached;
    std::vector<hipGraphNode_t> pending = capture.origin->frontier;
    while (!pending.empty()) {
        const hipGraphNode_t node = pending.back();
        pending.pop_back();
        if (!reached.insert(node).second) continue;
        pending.insert(pending.end(), node->dependencies.begin(), node->dependencies.end());
    }
    return std::all_of(capture.members.begin(), capture.members.end(), [&](hipStream_t stream) {
        return std::all_of(stream->frontier.begin(), stream->frontier.end(),
                           [&](hipGraphNode_t node) { return reached.count(node) == 1; });
    });
}

// Invalidates the captures in progress that `is_hit` selects; `error` where there is one.
template <class Predicate>
hipError_t invalidate_if(hipError_t error, Predicate is_hit) {
    hipError_t result = hipSuccess;
    const std::lock_guard<std::mutex> lock(mutex());
    for (const CapturePointer& capture : captures()) {
        if (!is_hit(*capture)) continue;
        capture->is_invalidated = true;
        result = error;
    }
    return result;
}

hipStreamCaptureStatus status_of(const ihipStream_t& stream) {
    if (stream.capture == nullptr) return hipStreamCaptureStatusNone;
    return stream.capture->is_invalidated ? hipStreamCaptureStatusInvalidated : hipStreamCaptureStatusActive;
}

hipError_t begin(hipStream_t handle, hipStreamCaptureMode mode) {
    ihipStream_t* const stream = find_stream(handle);
    if (stream == nullptr) return hipErrorInvalidHandle;
    if (!is_mode(mode)) return hipErrorInvalidValue;
    if (is_legacy(*stream)) return hipErrorStreamCaptureUnsupported;
    const std::lock_guard<std::mutex> lock(mutex());
    if (stream->capture != nullptr) return hipErrorIllegalState;
    auto capture = std::make_shared<Capture>();
    captures().reserve(captures().size() + 1);
    capture->members.reserve(1);
    capture->graph = create_graph();
    capture->graph->is_capturing = true;
    capture->id = ++last_id;
    capture->mode = mode;
    capture->owner = std::this_thread::get_id();
    capture->origin = stream;
    join(*stream, capture);
    captures().push_back(std::move(capture));
    captures_in_progress = static_cast<int>(captures().size());
    return hipSuccess;
}

hipError_t end(hipStream_t handle, hipGraph_t* graph) {
    ihipStream_t* const stream = find_stream(handle);
    if (stream == nullptr) return hipErrorInvalidHandle;
    if (graph == nullptr) return hipErrorInvalidValue;
    *graph = nullptr;
    const std::lock_guard<std::mutex> lock(mutex());
    const CapturePointer capture = stream->capture;
    if (capture == nullptr) return hipErrorIllegalState;
    if (capture->mode != hipStreamCaptureModeRelaxed && capture->owner != std::this_thread::get_id()) {
        return hipErrorStreamCaptureWrongThread;
    }
    if (capture->origin != stream) {
        capture->is_invalidated = true;
        return hipErrorStreamCaptureUnmatched;
    }
    const bool joined = is_joined(*capture);
    const hipGraph_t captured = finish(capture);
    if (!capture->is_invalidated && joined) {
        *graph = captured;
        return hipSuccess;
    }
    destroy_graph(captured);
    return capture->is_invalidated ? hipErrorStreamCaptureInvalidated : hipErrorStreamCaptureUnjoined;
}

}  // namespace

hipError_t check_unsafe_call() {
    if (!is_anything_capturing() || thread_mode == hipStreamCaptureModeRelaxed) return hipSuccess;
    return invalidate_if(hipErrorStreamCaptureUnsupported, [](const Capture& capture) {
        if (capture.mode == hipStreamCaptureModeRelaxed) return false;
        if (capture.owner == std::this_thread::get_id()) return true;
        return thread_mode == hipStreamCaptureModeGlobal && capture.mode == hipStreamCaptureModeGlobal;
    });
}

hipError_t check_legacy_use() {
    if (!is_anything_capturing()) return hipSuccess;
    const int device = current_device();
    return invalidate_if(hipErrorStreamCaptureImplicit, [device](const Capture& capture) {
        return std::any_of(capture.members.begin(), capture.members.end(), [device](hipStream_t stream) {
            return stream->device == device && (stream->flags & hipStreamNonBlocking) == 0;
        });
    });
}

hipError_t check_stream_use(hipStream_t handle) {
    ihipStream_t* const stream = find_stream(handle);
    if (stream == nullptr) return hipErrorInvalidHandle;
    if (is_legacy(*stream)) return check_legacy_use();
    if (!stream->is_capturing) return hipSuccess;
    return invalidate_if(hipErrorStreamCaptureUnsupported,
                         [stream](const Capture& capture) { return stream->capture.get() == &capture; });
}

hipError_t check_synchronous_call() {
    const hipError_t result = check_legacy_use();
    return result == hipSuccess ? check_unsafe_call() : result;
}

hipError_t check_device_synchronize(int device) {
    if (!is_anything_capturing()) return hipSuccess;
    return invalidate_if(hipErrorStreamCaptureUnsupported, [device](const Capture& capture) {
        return std::any_of(capture.members.begin(), capture.members.end(),
                           [device](hipStream_t stream) { return stream->device == device; });
    });
}

hipError_t record_operation(ihipStream_t& stream, hipGraphNodeType type, Operation operation) {
    const std::lock_guard<std::mutex> lock(mutex());
    if (stream.capture == nullptr) return hipErrorIllegalState;  // another thread has just ended it
    if (stream.capture->is_invalidated) return hipErrorStreamCaptureInvalidated;
    const hipGraphNode_t node = add_node(*stream.capture->graph, type, std::move(operation), stream.frontier);
    stream.frontier.assign(1, node);
    return hipSuccess;
}

Handled record_captured_event(ihipStream_t& stream, ihipEvent_t& event) {
    const std::lock_guard<std::mutex> lock(mutex());
    if (stream.capture == nullptr) {
        event.capture.reset();
        event.frontier.clear();
        return {false, hipSuccess};
    }
    if (stream.capture->is_invalidated) return {true, hipErrorStreamCaptureInvalidated};
    event.frontier = stream.frontier;
    event.capture = stream.capture;
    event.state = EventState::kCaptured;
    return {true, hipSuccess};
}

Handled wait_captured_event(ihipStream_t& stream, ihipEvent_t& event) {
    const std::lock_guard<std::mutex> lock(mutex());
    const CapturePointer own = stream.capture;
    if (own != nullptr && own->is_invalidated) return {true, hipErrorStreamCaptureInvalidated};
    if (event.state != EventState::kCaptured) {
        if (own == nullptr || event.state == EventState::kUnrecorded) return {false, hipSuccess};
        own->is_invalidated = true;
        return {true, hipErrorStreamCaptureIsolation};
    }
    const CapturePointer other = event.capture;
    if (!other->is_in_progress()) {
        if (own != nullptr) own->is_invalidated = true;
        return {true, hipErrorCapturedEvent};
    }
    if (own != nullptr && own != other) {
        own->is_invalidated = true;
        other->is_invalidated = true;
        return {true, hipErrorStreamCaptureMerge};
    }
    if (other->is_invalidated) return {true, hipErrorStreamCaptureInvalidated};
    if (is_legacy(stream)) {
        other->is_invalidated = true;
        return {true, hipErrorStreamCaptureImplicit};
    }
    if (own == nullptr) join(stream, other);
    add_missing(stream.frontier, event.frontier);
    return {true, hipSuccess};
}

void abandon_capture(ihipStream_t& stream) {
    const std::lock_guard<std::mutex> lock(mutex());
    const CapturePointer capture = stream.capture;
    if (capture == nullptr) return;
    capture->is_invalidated = true;
    if (capture->origin == &stream) {
        destroy_graph(finish(capture));
        return;
    }
    auto& members = capture->members;
    members.erase(std::remove(members.begin(), members.end(), &stream), members.end());
    stream.is_capturing = false;
    stream.capture.reset();
}

}  // namespace hipcomm::cpu

using namespace hipcomm::cpu;

hipError_t hipStreamBeginCapture(hipStream_t stream, hipStreamCaptureMode mode) {
    return api([&] { return begin(stream, mode); });
}

hipError_t hipStreamEndCapture(hipStream_t stream, hipGraph_t* graph) {
    return api([&] { return end(stream, graph); });
}

hipError_t hipStreamGetCaptureInfo_v2(hipStream_t handle, hipStreamCaptureStatus* status,
                                      unsigned long long* id, hipGraph_t* graph,
                                      const hipGraphNode_t** dependencies, size_t* dependency_count) {
    return api([&] {
        if (status == nullptr) return hipErrorInvalidValue;
        *status = hipStreamCaptureStatusNone;
        const ihipStream_t* const stream = find_stream(handle);
        if (stream == nullptr) return hipErrorInvalidHandle;
        if (is_legacy(*stream)) {
            const hipError_t permitted = check_legacy_use();
            if (permitted != hipSuccess) return permitted;
        }
        const std::lock_guard<std::mutex> lock(mutex());
        *status = status_of(*stream);
        if (*status != hipStreamCaptureStatusActive) return hipSuccess;
        if (id != nullptr) *id = stream->capture->id;
        if (graph != nullptr) *graph = stream->capture->graph;
        if (dependencies != nullptr) *dependencies = stream->frontier.data();
        if (dependency_count != nullptr) *dependency_count = stream->frontier.size();
        return hipSuccess;
    });
}

hipError_t hipStreamGetCaptureInfo(hipStream_t stream, hipStreamCaptureStatus* status,
                                   unsigned long long* id) {
    return hipStreamGetCaptureInfo_v2(stream, status, id, nullptr, nullptr, nullptr);
}

hipError_t hipStreamIsCapturing(hipStream_t stream, hipStreamCaptureStatus* status) {
    return hipStreamGetCaptureInfo_v2(stream, status, nullptr, nullptr, nullptr, nullptr);
}

hipError_t hipThreadExchangeStreamCaptureMode(hipStreamCaptureMode* mode) {
    return api([&] {
        if (mode == nullptr || !is_mode(*mode)) return hipErrorInvalidValue;
        std::swap(thread_mode, *mode);
        return hipSuccess;
    });
}
