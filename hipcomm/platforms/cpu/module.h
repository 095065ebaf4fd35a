// Modules and their functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "file_descriptor.h"
#include "hip_functions.h"
#include "kernel_abi.h"

namespace hipcomm::cpu {

// Largest argument segment, as on AMD GPUs.
constexpr size_t kMaxKernargBytes = 4096;

// A code object that the dynamic linker holds; unloaded with its last owner, which may be a graph.
class SharedObject {
public:
    SharedObject(FileDescriptor file, std::string path, void* handle)
        : file_(std::move(file)), path_(std::move(path)), handle_(handle) {}
    SharedObject(const SharedObject&) = delete;
    SharedObject& operator=(const SharedObject&) = delete;
    ~SharedObject();

    struct Symbol {
        void* address = nullptr;  // null: the object has no such symbol
        size_t bytes = 0;
    };
    // A symbol of this object itself, not of the libraries that it was linked with.  `type` is STT_FUNC or
    // STT_OBJECT.
    Symbol find(const char* name, unsigned char type) const;

private:
    FileDescriptor file_;
    std::string path_;
    void* handle_;
};

// Where the arguments of a kernel lie in its argument segment.
struct ArgumentLayout {
    struct Argument {
        uint32_t offset;
        uint32_t bytes;
    };
    bool is_declared = false;  // by a table in the code object; otherwise one argument of unknown size
    std::vector<Argument> arguments;
    uint32_t bytes = 0;
};

}  // namespace hipcomm::cpu

struct ihipModuleSymbol_t {
    hipcommCpuKernel kernel;
    hipcomm::cpu::ArgumentLayout layout;
    std::shared_ptr<const hipcomm::cpu::SharedObject> object;  // keeps the code loaded
};

struct ihipModule_t {
    explicit ihipModule_t(std::shared_ptr<const hipcomm::cpu::SharedObject> loaded)
        : object(std::move(loaded)) {}
    ihipModule_t(const ihipModule_t&) = delete;
    ihipModule_t& operator=(const ihipModule_t&) = delete;
    ~ihipModule_t();  // its functions go with it

    const std::shared_ptr<const hipcomm::cpu::SharedObject> object;
    std::mutex mutex;
    std::map<std::string, hipFunction_t> functions;  // those handed out so far
};

namespace hipcomm::cpu {

// The function behind a handle, or null.  Takes no lock.
const ihipModuleSymbol_t* find_function(const void* handle) noexcept;

}  // namespace hipcomm::cpu
