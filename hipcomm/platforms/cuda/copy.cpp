// Copies and fills.
#include "context.h"

using namespace hipcomm::cuda;

namespace {

// With unified addressing the driver sees from the addresses which way a copy goes.
bool is_direction(hipMemcpyKind kind) {
    return (kind >= hipMemcpyHostToHost && kind <= hipMemcpyDefault) || kind == hipMemcpyDeviceToDeviceNoCU;
}

void* address(const void* pointer) { return const_cast<void*>(pointer); }

}  // namespace

/* ---- copies ------------------------------------------------------------------------------------- */

hipError_t hipMemcpy(void* dst, const void* src, size_t bytes, hipMemcpyKind kind) {
    if (!is_direction(kind)) {
        return report(hipErrorInvalidMemcpyDirection);
    }
    return bytes == 0 ? hipSuccess : call(driver.cuMemcpy, dst, address(src), bytes);
}

hipError_t hipMemcpyAsync(void* dst, const void* src, size_t bytes, hipMemcpyKind kind, hipStream_t stream) {
    if (!is_direction(kind)) {
        return report(hipErrorInvalidMemcpyDirection);
    }
    return bytes == 0 ? hipSuccess : call(driver.cuMemcpyAsync, dst, address(src), bytes, stream);
}

hipError_t hipMemcpyHtoD(hipDeviceptr_t dst, const void* src, size_t bytes) {
    return bytes == 0 ? hipSuccess : call(driver.cuMemcpyHtoD_v2, dst, src, bytes);
}

hipError_t hipMemcpyDtoH(void* dst, hipDeviceptr_t src, size_t bytes) {
    return bytes == 0 ? hipSuccess : call(driver.cuMemcpyDtoH_v2, dst, src, bytes);
}

hipError_t hipMemcpyDtoD(hipDeviceptr_t dst, hipDeviceptr_t src, size_t bytes) {
    return bytes == 0 ? hipSuccess : call(driver.cuMemcpyDtoD_v2, dst, src, bytes);
}

hipError_t hipMemcpyPeer(void* dst, int dst_device, const void* src, int src_device, size_t bytes) {
    CUcontext dst_context;
    CUcontext src_context;
    CUresult result = primary_context(dst_device, &dst_context);
    if (result == CUDA_SUCCESS) {
        result = primary_context(src_device, &src_context);
    }
    if (result != CUDA_SUCCESS || bytes == 0) {
        return report(result);
    }
    return call(driver.cuMemcpyPeer, dst, dst_context, address(src), src_context, bytes);
}

/* ---- fills -------------------------------------------------------------------------------------- */

hipError_t hipMemset(void* dst, int value, size_t bytes) {
    return hipMemsetD8(dst, static_cast<unsigned char>(value), bytes);
}

hipError_t hipMemsetAsync(void* dst, int value, size_t bytes, hipStream_t stream) {
    return hipMemsetD8Async(dst, static_cast<unsigned char>(value), bytes, stream);
}

hipError_t hipMemsetD8(hipDeviceptr_t dst, unsigned char value, size_t count) {
    return count == 0 ? hipSuccess : call(driver.cuMemsetD8_v2, dst, value, count);
}

hipError_t hipMemsetD16(hipDeviceptr_t dst, unsigned short value, size_t count) {
    return count == 0 ? hipSuccess : call(driver.cuMemsetD16_v2, dst, value, count);
}

hipError_t hipMemsetD32(hipDeviceptr_t dst, int value, size_t count) {
    return count == 0 ? hipSuccess : call(driver.cuMemsetD32_v2, dst, static_cast<unsigned>(value), count);
}

hipError_t hipMemsetD8Async(hipDeviceptr_t dst, unsigned char value, size_t count, hipStream_t stream) {
    return count == 0 ? hipSuccess : call(driver.cuMemsetD8Async, dst, value, count, stream);
}

hipError_t hipMemsetD32Async(hipDeviceptr_t dst, int value, size_t count, hipStream_t stream) {
    return count == 0 ? hipSuccess
                      : call(driver.cuMemsetD32Async, dst, static_cast<unsigned>(value), count, stream);
}
