// Streams.
//
// Work runs in the thread that submits it and is complete when the call returns, so a stream orders nothing
// by itself: threads that share one order their calls, as they have to on a GPU.  What a stream carries is
// its part in a capture.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "hip_functions.h"

namespace hipcomm::cpu {
struct Capture;
}

struct ihipStream_t {
    ihipStream_t(unsigned stream_flags, int stream_priority, int stream_device)
        : flags(stream_flags), priority(stream_priority), device(stream_device) {}
    ihipStream_t(const ihipStream_t&) = delete;
    ihipStream_t& operator=(const ihipStream_t&) = delete;
    ~ihipStream_t();  // leaves its capture

    const unsigned flags;
    const int priority;
    const int device;

    // Read without a lock on every submission; the rest belongs to capture.cpp's lock.
    std::atomic<bool> is_capturing{false};
    std::shared_ptr<hipcomm::cpu::Capture> capture;
    std::vector<hipGraphNode_t> frontier;  // what the next captured node depends on
};

namespace hipcomm::cpu {

// The stream behind a handle, null for one that is unknown.  The null stream and hipStreamLegacy are one
// stream of the process; hipStreamPerThread is one of each thread.
hipStream_t find_stream(hipStream_t handle) noexcept;

extern ihipStream_t legacy_stream;
inline bool is_legacy(const ihipStream_t& stream) { return &stream == &legacy_stream; }

}  // namespace hipcomm::cpu
