// Modules and their functions: code objects and kernels.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "../cpu/error.h"
#include "code_object.h"
#include "fault.h"

struct ihipModuleSymbol_t {
    std::shared_ptr<const hipcomm::amd::Kernel> kernel;
};

struct ihipModule_t {
    explicit ihipModule_t(std::shared_ptr<hipcomm::amd::CodeObject> loaded) : object(std::move(loaded)) {}
    ihipModule_t(const ihipModule_t&) = delete;
    ihipModule_t& operator=(const ihipModule_t&) = delete;
    ~ihipModule_t();  // its functions go with it

    const std::shared_ptr<hipcomm::amd::CodeObject> object;
    std::mutex mutex;
    std::map<std::string, hipFunction_t> functions;  // those handed out so far
};

namespace hipcomm::amd {

// The function behind a handle, or null. Takes no lock.
const ihipModuleSymbol_t* find_function(const void* handle) noexcept;

// Runs a body that may fault: the sentence goes to hipGetErrorString, which has it until the next.
template <class Body>
hipError_t guarded(hipError_t error, Body&& body) {
    try {
        body();
        return hipSuccess;
    } catch (const Fault& fault) {
        cpu::explain(error, fault.what());
        return error;
    }
}

}  // namespace hipcomm::amd
