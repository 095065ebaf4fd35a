// Copies and fills.
//
// Every range is checked before it is touched: inside a known region against the region's bounds, elsewhere,
// as host memory, against what the process can read or write.
#include <algorithm>
#include <cstring>

#include "capture.h"
#include "device.h"
#include "error.h"
#include "host_access.h"
#include "regions.h"

namespace hipcomm::cpu {
namespace {

enum class Side { kHost, kDevice, kInvalid };

// What a range of memory is.  Pinned and registered host memory counts as the side that `wanted` asks for.
Side classify(const void* pointer, size_t bytes, Access access, Side wanted) {
    if (pointer == nullptr) return Side::kInvalid;
    const auto region = Regions::instance().find(pointer);
    if (region != nullptr) {
        if (bytes > region->end() - reinterpret_cast<uintptr_t>(pointer)) return Side::kInvalid;
        return region->is_host() ? wanted : Side::kDevice;
    }
    if (Regions::instance().overlaps(pointer, bytes)) return Side::kInvalid;
    return is_accessible(pointer, bytes, access) ? Side::kHost : Side::kInvalid;
}

bool is_kind(hipMemcpyKind kind) {
    return (kind >= hipMemcpyHostToHost && kind <= hipMemcpyDefault) || kind == hipMemcpyDeviceToDeviceNoCU;
}

// As in HIP, a direction may name less than what is there (device memory is memory of the host too), but a
// range said to be on the device has to be.
hipError_t check_copy(void* dst, const void* src, size_t bytes, hipMemcpyKind kind) {
    const bool is_between_devices = kind == hipMemcpyDeviceToDevice || kind == hipMemcpyDeviceToDeviceNoCU;
    const bool wants_device_dst = kind == hipMemcpyHostToDevice || is_between_devices;
    const bool wants_device_src = kind == hipMemcpyDeviceToHost || is_between_devices;
    const Side from = classify(src, bytes, Access::kRead, wants_device_src ? Side::kDevice : Side::kHost);
    const Side to = classify(dst, bytes, Access::kWrite, wants_device_dst ? Side::kDevice : Side::kHost);
    if (from == Side::kInvalid || to == Side::kInvalid) return hipErrorInvalidValue;
    if (wants_device_src && from != Side::kDevice) return hipErrorInvalidValue;
    if (wants_device_dst && to != Side::kDevice) return hipErrorInvalidValue;
    return hipSuccess;
}

struct Copy {
    void* dst;
    const void* src;
    size_t bytes;
    hipMemcpyKind kind;

    hipError_t operator()() const {
        const hipError_t result = check_copy(dst, src, bytes, kind);
        if (result == hipSuccess) std::memmove(dst, src, bytes);
        return result;
    }
};

template <class Value>
struct Fill {
    void* dst;
    Value value;
    size_t count;

    hipError_t check() const {
        if (count > SIZE_MAX / sizeof(Value) || reinterpret_cast<uintptr_t>(dst) % alignof(Value) != 0) {
            return hipErrorInvalidValue;
        }
        const Side side = classify(dst, count * sizeof(Value), Access::kWrite, Side::kDevice);
        return side == Side::kDevice ? hipSuccess : hipErrorInvalidValue;
    }

    hipError_t operator()() const {
        const hipError_t result = check();
        if (result == hipSuccess) std::fill_n(static_cast<Value*>(dst), count, value);
        return result;
    }
};

hipError_t copy_now(const Copy& copy) {
    if (!is_kind(copy.kind)) return hipErrorInvalidMemcpyDirection;
    if (copy.bytes == 0) return hipSuccess;
    const hipError_t permitted = check_synchronous_call();
    return permitted == hipSuccess ? copy() : permitted;
}

// Checked when it is submitted and, in a graph, again at each replay: memory may have been freed meanwhile.
hipError_t copy_on(hipStream_t stream, const Copy& copy) {
    const ihipStream_t* const found = find_stream(stream);
    if (found == nullptr) return hipErrorInvalidHandle;
    if (!is_kind(copy.kind)) return hipErrorInvalidMemcpyDirection;
    if (copy.bytes == 0) return hipSuccess;
    if (found->is_capturing) {
        const hipError_t valid = check_copy(copy.dst, copy.src, copy.bytes, copy.kind);
        if (valid != hipSuccess) return valid;
    }
    return submit(stream, hipGraphNodeTypeMemcpy, copy);
}

template <class Value>
hipError_t fill_now(const Fill<Value>& fill) {
    if (fill.count == 0) return hipSuccess;
    const hipError_t permitted = check_synchronous_call();
    return permitted == hipSuccess ? fill() : permitted;
}

template <class Value>
hipError_t fill_on(hipStream_t stream, const Fill<Value>& fill) {
    const ihipStream_t* const found = find_stream(stream);
    if (found == nullptr) return hipErrorInvalidHandle;
    if (fill.count == 0) return hipSuccess;
    if (found->is_capturing) {
        const hipError_t valid = fill.check();
        if (valid != hipSuccess) return valid;
    }
    return submit(stream, hipGraphNodeTypeMemset, fill);
}

}  // namespace
}  // namespace hipcomm::cpu

using namespace hipcomm::cpu;

hipError_t hipMemcpy(void* dst, const void* src, size_t bytes, hipMemcpyKind kind) {
    return api([&] { return copy_now({dst, src, bytes, kind}); });
}

hipError_t hipMemcpyHtoD(hipDeviceptr_t dst, const void* src, size_t bytes) {
    return hipMemcpy(dst, src, bytes, hipMemcpyHostToDevice);
}

hipError_t hipMemcpyDtoH(void* dst, hipDeviceptr_t src, size_t bytes) {
    return hipMemcpy(dst, src, bytes, hipMemcpyDeviceToHost);
}

hipError_t hipMemcpyDtoD(hipDeviceptr_t dst, hipDeviceptr_t src, size_t bytes) {
    return hipMemcpy(dst, src, bytes, hipMemcpyDeviceToDevice);
}

hipError_t hipMemcpyPeer(void* dst, int dst_device, const void* src, int src_device, size_t bytes) {
    if (!is_device(dst_device) || !is_device(src_device)) return report(hipErrorInvalidDevice);
    return hipMemcpy(dst, src, bytes, hipMemcpyDeviceToDevice);
}

hipError_t hipMemcpyAsync(void* dst, const void* src, size_t bytes, hipMemcpyKind kind, hipStream_t stream) {
    return api([&] { return copy_on(stream, {dst, src, bytes, kind}); });
}

hipError_t hipMemset(void* dst, int value, size_t bytes) {
    return hipMemsetD8(dst, static_cast<unsigned char>(value), bytes);
}

hipError_t hipMemsetD8(hipDeviceptr_t dst, unsigned char value, size_t count) {
    return api([&] { return fill_now(Fill<uint8_t>{dst, value, count}); });
}

hipError_t hipMemsetD16(hipDeviceptr_t dst, unsigned short value, size_t count) {
    return api([&] { return fill_now(Fill<uint16_t>{dst, value, count}); });
}

hipError_t hipMemsetD32(hipDeviceptr_t dst, int value, size_t count) {
    return api([&] { return fill_now(Fill<int32_t>{dst, value, count}); });
}

hipError_t hipMemsetAsync(void* dst, int value, size_t bytes, hipStream_t stream) {
    return hipMemsetD8Async(dst, static_cast<unsigned char>(value), bytes, stream);
}

hipError_t hipMemsetD8Async(hipDeviceptr_t dst, unsigned char value, size_t count, hipStream_t stream) {
    return api([&] { return fill_on(stream, Fill<uint8_t>{dst, value, count}); });
}

hipError_t hipMemsetD32Async(hipDeviceptr_t dst, int value, size_t count, hipStream_t stream) {
    return api([&] { return fill_on(stream, Fill<int32_t>{dst, value, count}); });
}
