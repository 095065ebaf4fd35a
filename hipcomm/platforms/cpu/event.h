// Events: a time, or a place in a capture.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "hip_functions.h"

namespace hipcomm::cpu {
struct Capture;
enum class EventState { kUnrecorded, kRecorded, kCaptured };
}  // namespace hipcomm::cpu

struct ihipEvent_t {
    explicit ihipEvent_t(unsigned event_flags) : flags(event_flags) {}

    const unsigned flags;
    std::atomic<hipcomm::cpu::EventState> state{hipcomm::cpu::EventState::kUnrecorded};
    std::atomic<int64_t> nanoseconds{0};  // CLOCK_MONOTONIC at the last record

    // Of a captured event, under capture.cpp's lock: the capture, and the nodes it stands for.
    std::shared_ptr<hipcomm::cpu::Capture> capture;
    std::vector<hipGraphNode_t> frontier;
};
