// Finding libcuda.so.1 and binding its functions.
#include "driver.h"

#include <dlfcn.h>

#include <cstdio>
#include <mutex>

#include "error.h"

namespace hipcomm::cuda {

Driver driver;

namespace {

// The loader's own search first.  The others are where container runtimes and WSL put the driver without
// telling the loader.
constexpr const char* kLibraries[] = {
    "libcuda.so.1",
    "/usr/local/nvidia/lib64/libcuda.so.1",
    "/usr/lib/wsl/lib/libcuda.so.1",
};

struct Initialization {
    std::once_flag once;
    CUresult result = CUDA_SUCCESS;
    char reason[256] = "";  // of a failure, in words
};

Initialization initialization;

void* open_library(char* reason, size_t reason_size) {
    for (const char* path : kLibraries) {
        if (void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
            return library;
        }
        if (path == kLibraries[0]) {  // the one message that helps
            const char* message = dlerror();
            std::snprintf(reason, reason_size, "%s", message != nullptr ? message : path);
        }
    }
    return nullptr;
}

// The first function that the library lacks, or null when all are bound.
const char* bind_functions(void* library) {
    const char* missing = nullptr;
#define HIPCOMM_BIND(name, parameters)                       \
    if (void* symbol = dlsym(library, #name)) {              \
        driver.name.bind(symbol);                            \
    } else if (missing == nullptr) {                         \
        missing = #name;                                     \
    }
    HIPCOMM_CUDA_FUNCTIONS(HIPCOMM_BIND)
#undef HIPCOMM_BIND
#define HIPCOMM_BIND_OPTIONAL(name, parameters)              \
    if (void* symbol = dlsym(library, #name)) {              \
        driver.name.bind(symbol);                            \
    }
    HIPCOMM_CUDA_OPTIONAL_FUNCTIONS(HIPCOMM_BIND_OPTIONAL)
#undef HIPCOMM_BIND_OPTIONAL
    return missing;
}

CUresult load_and_initialize(char* reason, size_t reason_size) {
    void* library = open_library(reason, reason_size);
    if (library == nullptr) {
        return CUDA_ERROR_NO_DEVICE;
    }
    if (const char* missing = bind_functions(library)) {
        std::snprintf(reason, reason_size, "the driver has no %s; CUDA 11.4 or newer is needed", missing);
        return CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER;
    }
    CUresult result = driver.cuInit(0);
    if (result != CUDA_SUCCESS) {
        std::snprintf(reason, reason_size, "cuInit gave CUDA error %d", static_cast<int>(result));
    }
    return result;
}

}  // namespace

CUresult initialize_driver() {
    std::call_once(initialization.once, [] {
        initialization.result = load_and_initialize(initialization.reason, sizeof initialization.reason);
    });
    if (initialization.result != CUDA_SUCCESS) {
        explain(translate(initialization.result), initialization.reason);
    }
    return initialization.result;
}

}  // namespace hipcomm::cuda
