// Streams: creation, properties, and the calls that wait for work, which is always complete.
#include "stream.h"

#include "capture.h"
#include "device.h"
#include "error.h"
#include "handle_table.h"

namespace hipcomm::cpu {

ihipStream_t legacy_stream(hipStreamDefault, 0, 0);

namespace {

// Priorities change nothing: there is nothing that could overtake.  The range is the customary one.
constexpr int kLeastPriority = 1;
constexpr int kGreatestPriority = -1;

HandleTable<ihipStream_t, 4096> streams;

hipError_t create(hipStream_t* stream, unsigned flags, int priority) {
    if (stream == nullptr || (flags & ~hipStreamNonBlocking) != 0) return hipErrorInvalidValue;
    *stream = nullptr;
    if (device_count() == 0) return hipErrorNoDevice;
    const int clamped = priority > kLeastPriority      ? kLeastPriority
                        : priority < kGreatestPriority ? kGreatestPriority
                                                       : priority;
    *stream = streams.create(flags, clamped, current_device());
    return hipSuccess;
}

hipStream_t per_thread_stream() {
    thread_local ihipStream_t stream(hipStreamDefault, 0, current_device());
    return &stream;
}

}  // namespace

hipStream_t find_stream(hipStream_t handle) noexcept {
    if (handle == nullptr || handle == hipStreamLegacy) return &legacy_stream;
    if (handle == hipStreamPerThread) return per_thread_stream();
    return streams.find(handle);
}

}  // namespace hipcomm::cpu

using namespace hipcomm::cpu;

ihipStream_t::~ihipStream_t() {
    if (is_capturing) abandon_capture(*this);
}

hipError_t hipStreamCreate(hipStream_t* stream) {
    return api([&] { return create(stream, hipStreamDefault, 0); });
}

hipError_t hipStreamCreateWithFlags(hipStream_t* stream, unsigned int flags) {
    return api([&] { return create(stream, flags, 0); });
}

hipError_t hipStreamCreateWithPriority(hipStream_t* stream, unsigned int flags, int priority) {
    return api([&] { return create(stream, flags, priority); });
}

hipError_t hipDeviceGetStreamPriorityRange(int* least, int* greatest) {
    if (least != nullptr) *least = kLeastPriority;
    if (greatest != nullptr) *greatest = kGreatestPriority;
    return hipSuccess;
}

hipError_t hipStreamDestroy(hipStream_t stream) {
    return api([&] {
        ihipStream_t* const found = streams.find(stream);
        if (found == nullptr) return hipErrorInvalidHandle;
        return streams.destroy(found) ? hipSuccess : hipErrorInvalidHandle;
    });
}

hipError_t hipStreamSynchronize(hipStream_t stream) {
    return api([&] { return check_stream_use(stream); });
}

hipError_t hipStreamQuery(hipStream_t stream) {
    return api([&] { return check_stream_use(stream); });
}

hipError_t hipStreamGetFlags(hipStream_t stream, unsigned int* flags) {
    const ihipStream_t* const found = find_stream(stream);
    if (found == nullptr) return report(hipErrorInvalidHandle);
    if (flags == nullptr) return report(hipErrorInvalidValue);
    *flags = found->flags;
    return hipSuccess;
}

hipError_t hipStreamGetPriority(hipStream_t stream, int* priority) {
    const ihipStream_t* const found = find_stream(stream);
    if (found == nullptr) return report(hipErrorInvalidHandle);
    if (priority == nullptr) return report(hipErrorInvalidValue);
    *priority = found->priority;
    return hipSuccess;
}

hipError_t hipStreamGetDevice(hipStream_t stream, hipDevice_t* device) {
    const ihipStream_t* const found = find_stream(stream);
    if (found == nullptr) return report(hipErrorInvalidHandle);
    if (device == nullptr) return report(hipErrorInvalidValue);
    *device = is_legacy(*found) ? current_device() : found->device;
    return hipSuccess;
}

hipError_t hipLaunchHostFunc(hipStream_t stream, hipHostFn_t function, void* user_data) {
    return api([&] {
        if (function == nullptr) return hipErrorInvalidValue;
        return submit(stream, hipGraphNodeTypeHost, [=] {
            function(user_data);
            return hipSuccess;
        });
    });
}

hipError_t hipStreamAddCallback(hipStream_t stream, hipStreamCallback_t callback, void* user_data,
                                unsigned int flags) {
    return api([&] {
        if (callback == nullptr || flags != 0) return hipErrorInvalidValue;
        // Superseded by hipLaunchHostFunc, and never part of a graph.
        const hipError_t permitted = check_stream_use(stream);
        if (permitted != hipSuccess) return permitted;
        callback(stream, hipSuccess, user_data);
        return hipSuccess;
    });
}
