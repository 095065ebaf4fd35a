/* The functions of the stand-in that do something, and the ones that note their arguments. */
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include "fake.h"

using namespace fake;

namespace {

std::mutex mutex;
std::string journal;
std::map<std::string, CUresult> failures;
bool initialized = false;  // written by cuInit alone, which the platform calls once
thread_local CUcontext current = nullptr;

int from_environment(const char* name, int otherwise) {
    const char* value = std::getenv(name);
    return value != nullptr ? std::atoi(value) : otherwise;
}

int device_count() { return from_environment("FAKE_CUDA_DEVICES", 2); }

CUresult of_device(const char* name, int device) {
    CUresult result = without_context(name);
    bool exists = device >= 0 && device < device_count();
    return result == CUDA_SUCCESS && !exists ? CUDA_ERROR_INVALID_DEVICE : result;
}

CUcontext primary(int device) { return reinterpret_cast<CUcontext>(static_cast<intptr_t>(0xC0 + device)); }

}  // namespace

namespace fake {

void note(const char* format, ...) {
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    std::lock_guard<std::mutex> lock(mutex);
    journal += line;
    journal += '\n';
}

CUresult without_context(const char* name) {
    if (!initialized) {
        return CUDA_ERROR_NOT_INITIALIZED;
    }
    std::lock_guard<std::mutex> lock(mutex);
    auto found = failures.find(name);
    return found == failures.end() ? CUDA_SUCCESS : found->second;
}

CUresult with_context(const char* name) {
    return initialized && current == nullptr ? CUDA_ERROR_INVALID_CONTEXT : without_context(name);
}

}  // namespace fake

/* ---- for the test ------------------------------------------------------------------------------- */

// Copies what was noted since the last time, a line for each, and forgets it.
EXPORT void fake_journal(char* text, size_t size) {
    std::lock_guard<std::mutex> lock(mutex);
    std::snprintf(text, size, "%s", journal.c_str());
    journal.clear();
}

// Makes a function answer `result` from now on.
EXPORT void fake_fail(const char* name, int result) {
    std::lock_guard<std::mutex> lock(mutex);
    failures[name] = static_cast<CUresult>(result);
}

/* ---- devices and contexts ----------------------------------------------------------------------- */

EXPORT CUresult cuInit(unsigned flags) {
    note("cuInit %u", flags);
    auto result = static_cast<CUresult>(from_environment("FAKE_CUDA_INIT", 0));
    initialized = result == CUDA_SUCCESS;
    return result;
}

EXPORT CUresult cuDeviceGetCount(int* count) {
    *count = device_count();
    return without_context("cuDeviceGetCount");
}

EXPORT CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    *device = ordinal;
    return of_device("cuDeviceGet", ordinal);
}

EXPORT CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
    std::snprintf(name, static_cast<size_t>(length), "fake %d", device);
    return of_device("cuDeviceGetName", device);
}

EXPORT CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
    std::memset(uuid->bytes, 0x50 + device, sizeof uuid->bytes);
    return of_device("cuDeviceGetUuid_v2", device);
}

EXPORT CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
    *bytes = size_t{140} << 30;
    return of_device("cuDeviceTotalMem_v2", device);
}

// Attribute a of device d is 1000 d + a, so that each can be told from every other.
EXPORT CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
    *value = 1000 * device + attribute;
    return of_device("cuDeviceGetAttribute", device);
}

EXPORT CUresult cuDeviceGetP2PAttribute(int* value, CUdevice_P2PAttribute attribute, CUdevice source,
                                        CUdevice destination) {
    *value = attribute;
    note("cuDeviceGetP2PAttribute %d %d", source, destination);
    return of_device("cuDeviceGetP2PAttribute", source);
}

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
    note("cuDevicePrimaryCtxRetain %d", device);
    *context = primary(device);
    return of_device("cuDevicePrimaryCtxRetain", device);
}

EXPORT CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned flags) {
    note("cuDevicePrimaryCtxSetFlags_v2 %d 0x%x", device, flags);
    return of_device("cuDevicePrimaryCtxSetFlags_v2", device);
}

EXPORT CUresult cuCtxGetCurrent(CUcontext* context) {
    *context = current;
    return without_context("cuCtxGetCurrent");
}

EXPORT CUresult cuCtxSetCurrent(CUcontext context) {
    note("cuCtxSetCurrent %p", static_cast<void*>(context));
    current = context;
    return without_context("cuCtxSetCurrent");
}

EXPORT CUresult cuCtxGetDevice(CUdevice* device) {
    *device = static_cast<int>(reinterpret_cast<intptr_t>(current)) - 0xC0;
    return with_context("cuCtxGetDevice");
}

EXPORT CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned flags) {
    note("cuCtxEnablePeerAccess %p %u", static_cast<void*>(peer), flags);
    return with_context("cuCtxEnablePeerAccess");
}

/* ---- memory ------------------------------------------------------------------------------------- */

EXPORT CUresult cuMemAlloc_v2(CUdeviceptr* pointer, size_t bytes) {
    note("cuMemAlloc_v2 %zu", bytes);
    *pointer = reinterpret_cast<void*>(uintptr_t{0x7000000});
    return with_context("cuMemAlloc_v2");
}

EXPORT CUresult cuMemHostAlloc(void** pointer, size_t bytes, unsigned flags) {
    note("cuMemHostAlloc %zu 0x%x", bytes, flags);
    *pointer = reinterpret_cast<void*>(uintptr_t{0x8000000});
    return with_context("cuMemHostAlloc");
}

EXPORT CUresult cuMemHostRegister_v2(void*, size_t bytes, unsigned flags) {
    note("cuMemHostRegister_v2 %zu 0x%x", bytes, flags);
    return with_context("cuMemHostRegister_v2");
}

EXPORT CUresult cuMemsetD8_v2(CUdeviceptr dst, unsigned char value, size_t count) {
    note("cuMemsetD8_v2 %p 0x%x %zu", dst, value, count);
    return with_context("cuMemsetD8_v2");
}

EXPORT CUresult cuMemcpyPeer(CUdeviceptr dst, CUcontext dst_context, CUdeviceptr src, CUcontext src_context,
                             size_t bytes) {
    note("cuMemcpyPeer %p %p %p %p %zu", dst, static_cast<void*>(dst_context), src,
         static_cast<void*>(src_context), bytes);
    return with_context("cuMemcpyPeer");
}

// Knows three pointers: 0x7000000 device memory of device 1, 0x8000000 pinned, 0x9000000 managed.
EXPORT CUresult cuPointerGetAttributes(unsigned count, CUpointer_attribute* attributes, void** data,
                                       CUdeviceptr pointer) {
    auto address = reinterpret_cast<uintptr_t>(pointer);
    bool host = address == 0x8000000;
    bool managed = address == 0x9000000;
    bool known = address == 0x7000000 || host || managed;
    for (unsigned i = 0; i < count; ++i) {
        switch (attributes[i]) {
            case HIP_POINTER_ATTRIBUTE_MEMORY_TYPE:
                *static_cast<unsigned*>(data[i]) = !known ? 0 : host ? 1 : 2;
                break;
            case HIP_POINTER_ATTRIBUTE_IS_MANAGED:
                *static_cast<unsigned*>(data[i]) = managed;
                break;
            case HIP_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
                *static_cast<int*>(data[i]) = known ? 1 : 77;
                break;
            case HIP_POINTER_ATTRIBUTE_DEVICE_POINTER:
                *static_cast<void**>(data[i]) = known ? pointer : nullptr;
                break;
            case HIP_POINTER_ATTRIBUTE_HOST_POINTER:
                *static_cast<void**>(data[i]) = host ? pointer : nullptr;
                break;
            default:
                return CUDA_ERROR_INVALID_VALUE;
        }
    }
    return without_context("cuPointerGetAttributes");
}

EXPORT CUresult cuMemHostGetFlags(unsigned* flags, void*) {
    *flags = 3;
    return without_context("cuMemHostGetFlags");
}

EXPORT CUresult cuIpcOpenMemHandle_v2(CUdeviceptr* pointer, CUipcMemHandle handle, unsigned flags) {
    note("cuIpcOpenMemHandle_v2 %02x %02x %u", static_cast<unsigned char>(handle.reserved[0]),
         static_cast<unsigned char>(handle.reserved[63]), flags);
    *pointer = reinterpret_cast<void*>(uintptr_t{0x7000000});
    return with_context("cuIpcOpenMemHandle_v2");
}

/* ---- modules and launches ----------------------------------------------------------------------- */

// An image is text here: "bad..." is PTX that does not assemble.
EXPORT CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned option_count,
                                   CUjit_option* options, void** option_values) {
    auto text = static_cast<const char*>(image);
    note("cuModuleLoadDataEx %s", text);
    CUresult result = with_context("cuModuleLoadDataEx");
    if (result != CUDA_SUCCESS || std::strncmp(text, "bad", 3) != 0) {
        *module = reinterpret_cast<CUmodule>(uintptr_t{0x40});
        return result;
    }
    if (option_count == 2 && options[0] == CU_JIT_ERROR_LOG_BUFFER &&
        options[1] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES) {
        std::snprintf(static_cast<char*>(option_values[0]), reinterpret_cast<size_t>(option_values[1]),
                      "ptxas fatal : line 7 is nonsense");
    }
    return CUDA_ERROR_INVALID_PTX;
}

// Every symbol exists, unless fake_fail says otherwise.
EXPORT CUresult cuModuleGetGlobal_v2(CUdeviceptr* pointer, size_t* bytes, CUmodule, const char* name) {
    note("cuModuleGetGlobal_v2 %s", name);
    *pointer = reinterpret_cast<CUdeviceptr>(uintptr_t{0x80});
    *bytes = 4;
    return with_context("cuModuleGetGlobal_v2");
}

EXPORT CUresult cuModuleGetFunction(CUfunction* function, CUmodule, const char*) {
    note("cuModuleGetFunction");
    *function = reinterpret_cast<CUfunction>(uintptr_t{0x50});
    return with_context("cuModuleGetFunction");
}

EXPORT CUresult cuDriverGetVersion(int* version) {
    const char* text = std::getenv("FAKE_CUDA_VERSION");
    *version = text != nullptr ? std::atoi(text) : 13000;
    return without_context("cuDriverGetVersion");
}

EXPORT CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** kernel_params,
                                 void**) {
    note("cuLaunchKernelEx %p %u %u %u %u %u %u %u %p %s", static_cast<void*>(function), config->gridDimX,
         config->gridDimY, config->gridDimZ, config->blockDimX, config->blockDimY, config->blockDimZ,
         config->sharedMemBytes, static_cast<void*>(config->hStream),
         kernel_params != nullptr ? "params" : "no params");
    for (unsigned i = 0; i < config->numAttrs; ++i) {
        note("attribute %d %d", static_cast<int>(config->attrs[i].id),
             config->attrs[i].value.programmaticStreamSerializationAllowed);
    }
    return with_context("cuLaunchKernelEx");
}

EXPORT CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned, unsigned, unsigned, unsigned, unsigned,
                                          unsigned, unsigned, CUstream, void**) {
    note("cuLaunchCooperativeKernel %p", static_cast<void*>(function));
    return with_context("cuLaunchCooperativeKernel");
}

EXPORT CUresult cuFuncGetAttribute(int* value, CUfunction_attribute, CUfunction function) {
    note("cuFuncGetAttribute %p", static_cast<void*>(function));
    *value = 0;
    return with_context("cuFuncGetAttribute");
}

EXPORT CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute, int) {
    note("cuFuncSetAttribute %p", static_cast<void*>(function));
    return with_context("cuFuncSetAttribute");
}

EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, CUfunction function, int, size_t,
                                                                     unsigned) {
    note("cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags %p", static_cast<void*>(function));
    *blocks = 2;
    return with_context("cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags");
}

EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                               unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                               CUstream stream, void** kernel_params, void** extra) {
    note("cuLaunchKernel %p %u %u %u %u %u %u %u %p %s", static_cast<void*>(function), grid_x, grid_y, grid_z,
         block_x, block_y, block_z, shared_bytes, static_cast<void*>(stream),
         kernel_params != nullptr ? "params" : "no params");
    for (int i = 0; extra != nullptr; ++i) {
        note("extra %p", extra[i]);
        if (i % 2 == 0 && extra[i] == nullptr) {
            break;
        }
    }
    return with_context("cuLaunchKernel");
}

/* ---- streams and events ------------------------------------------------------------------------- */

EXPORT CUresult cuEventCreate(CUevent* event, unsigned flags) {
    note("cuEventCreate 0x%x", flags);
    *event = reinterpret_cast<CUevent>(uintptr_t{0x60});
    return with_context("cuEventCreate");
}

EXPORT CUresult cuStreamGetCtx(CUstream, CUcontext* context) {
    *context = primary(1);
    return with_context("cuStreamGetCtx");
}

// Runs the callback at once, as on a stream that has failed.
EXPORT CUresult cuStreamAddCallback(CUstream stream, CUstreamCallback callback, void* user_data,
                                    unsigned flags) {
    note("cuStreamAddCallback %u", flags);
    CUresult result = with_context("cuStreamAddCallback");
    if (result == CUDA_SUCCESS) {
        callback(stream, CUDA_ERROR_MISALIGNED_ADDRESS, user_data);
    }
    return result;
}
