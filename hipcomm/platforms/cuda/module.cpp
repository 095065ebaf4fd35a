// Loading code, and what is known of a kernel.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <new>

#include "kernel.h"

using namespace hipcomm::cuda;

namespace {

using Bytes = std::unique_ptr<char[]>;

// Reads a whole file and puts a NUL after it, because PTX is text and does not carry its length.
hipError_t read_file(const char* path, Bytes* contents) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? hipErrorFileNotFound : hipErrorOperatingSystem;
    }
    struct stat status;
    hipError_t error = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) ? hipSuccess : hipErrorFileNotFound;
    size_t size = error == hipSuccess ? static_cast<size_t>(status.st_size) : 0;
    if (error == hipSuccess) {
        contents->reset(new (std::nothrow) char[size + 1]);
        error = *contents != nullptr ? hipSuccess : hipErrorOutOfMemory;
    }
    size_t done = 0;
    while (error == hipSuccess && done < size) {
        ssize_t got = read(fd, contents->get() + done, size - done);
        if (got > 0) {
            done += static_cast<size_t>(got);
        } else if (got == 0 || errno != EINTR) {  // the file shrank, or cannot be read
            error = hipErrorOperatingSystem;
        }
    }
    if (error == hipSuccess) {
        (*contents)[size] = '\0';
    }
    close(fd);  // opened for reading: nothing is lost if this fails
    return error;
}

// Whether launches of this module's kernels may begin early.
bool has_early_kernels(CUmodule module) {
    int version = 0;
    CUdeviceptr symbol = nullptr;
    size_t bytes = 0;
    return driver.cuLaunchKernelEx.bound() && driver.cuDriverGetVersion(&version) == CUDA_SUCCESS &&
           version >= kEarlyDriverVersion &&
           driver.cuModuleGetGlobal_v2(&symbol, &bytes, module, kEarlySymbol) == CUDA_SUCCESS;
}

}  // namespace

/* ---- modules ------------------------------------------------------------------------------------ */

// An image is PTX text that ends with a NUL, a cubin or a fatbin; the driver tells them apart.  What the
// assembler says about bad PTX is added to hipGetErrorString's answer.
hipError_t hipModuleLoadData(hipModule_t* module, const void* image) {
    if (module == nullptr || image == nullptr) {
        return report(hipErrorInvalidValue);
    }
    char log[1536] = "";
    CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    void* values[] = {log, reinterpret_cast<void*>(sizeof log)};
    hipError_t error = call(driver.cuModuleLoadDataEx, module, image, 2u, options, values);
    log[sizeof log - 1] = '\0';
    if (error != hipSuccess && log[0] != '\0') {
        explain(error, log);
    }
    return error;
}

hipError_t hipModuleLoad(hipModule_t* module, const char* path) {
    if (module == nullptr || path == nullptr) {
        return report(hipErrorInvalidValue);
    }
    Bytes image;
    hipError_t error = read_file(path, &image);
    return error == hipSuccess ? hipModuleLoadData(module, image.get()) : report(error);
}

hipError_t hipModuleUnload(hipModule_t module) { return call(driver.cuModuleUnload, module); }

// CUDA loads a kernel's code at its first launch, and then may wait for the whole device: for ever, if a
// kernel of another rank is spinning there.  So the code is loaded here.
hipError_t hipModuleGetFunction(hipFunction_t* function, hipModule_t module, const char* name) {
    if (function == nullptr) {
        return report(hipErrorInvalidValue);
    }
    CUfunction loaded = nullptr;
    hipError_t error = call(driver.cuModuleGetFunction, &loaded, module, name);
    if (error == hipSuccess && driver.cuFuncLoad.bound()) {
        error = call(driver.cuFuncLoad, loaded);
    }
    if (error == hipSuccess) {
        *function = handle_of(loaded, has_early_kernels(module));
    }
    return error;
}

hipError_t hipModuleGetGlobal(hipDeviceptr_t* pointer, size_t* bytes, hipModule_t module, const char* name) {
    return call(driver.cuModuleGetGlobal_v2, pointer, bytes, module, name);
}

/* ---- functions ---------------------------------------------------------------------------------- */

// hipFunction_attribute and hipFuncAttribute have CUDA's numbers.  `function` is a hipFunction_t also where
// HIP declares const void*: a program without a HIP host compiler has no other handle.
hipError_t hipFuncGetAttribute(int* value, hipFunction_attribute attribute, hipFunction_t function) {
    CUfunction_attribute cuda_attribute = attribute;
    return call(driver.cuFuncGetAttribute, value, cuda_attribute, function_of(function));
}

hipError_t hipFuncSetAttribute(const void* function, hipFuncAttribute attribute, int value) {
    CUfunction_attribute cuda_attribute = attribute;
    CUfunction handle = function_of(static_cast<hipFunction_t>(const_cast<void*>(function)));
    return call(driver.cuFuncSetAttribute, handle, cuda_attribute, value);
}

hipError_t hipModuleOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, hipFunction_t function,
                                                              int block_size, size_t shared_bytes) {
    return hipModuleOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, block_size,
                                                                       shared_bytes, 0);
}

hipError_t hipModuleOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, hipFunction_t function,
                                                                       int block_size, size_t shared_bytes,
                                                                       unsigned int flags) {
    return call(driver.cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags, blocks, function_of(function),
                block_size, shared_bytes, flags);
}
