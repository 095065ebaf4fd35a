// Error names and descriptions, and the last error of each thread.
#include "error.h"

#include "hip_error_table.h"

namespace hipcomm::cpu {
namespace {

struct ErrorText {
    hipError_t code;
    const char* name;
    const char* description;
};

constexpr ErrorText kErrors[] = {
#define HIPCOMM_ENTRY(code, description) {code, #code, description},
    HIPCOMM_HIP_ERRORS(HIPCOMM_ENTRY)
#undef HIPCOMM_ENTRY
};

constexpr ErrorText kNoSuchError = {hipErrorUnknown, "hipErrorUnknown", "unrecognized error code"};

const ErrorText& text_of(hipError_t code) noexcept {
    for (const ErrorText& entry : kErrors) {
        if (entry.code == code) return entry;
    }
    return kNoSuchError;
}

bool is_known(hipError_t code) noexcept { return &text_of(code) != &kNoSuchError; }

thread_local hipError_t last_error = hipSuccess;
thread_local hipError_t explained = hipSuccess;
thread_local std::string explanation;

}  // namespace

hipError_t report(hipError_t result) noexcept {
    if (result != hipSuccess) last_error = result;
    return result;
}

void explain(hipError_t error, const std::string& words) {
    explained = error;
    explanation = std::string(text_of(error).description) + ": " + words;
}

}  // namespace hipcomm::cpu

using namespace hipcomm::cpu;

const char* hipGetErrorName(hipError_t error) { return text_of(error).name; }

const char* hipGetErrorString(hipError_t error) {
    return error == explained && !explanation.empty() ? explanation.c_str() : text_of(error).description;
}

hipError_t hipDrvGetErrorName(hipError_t error, const char** name) {
    if (name == nullptr || !is_known(error)) return report(hipErrorInvalidValue);
    *name = text_of(error).name;
    return hipSuccess;
}

hipError_t hipDrvGetErrorString(hipError_t error, const char** description) {
    if (description == nullptr || !is_known(error)) return report(hipErrorInvalidValue);
    *description = text_of(error).description;
    return hipSuccess;
}

hipError_t hipGetLastError(void) {
    const hipError_t result = last_error;
    last_error = hipSuccess;
    return result;
}

hipError_t hipExtGetLastError(void) { return hipGetLastError(); }

hipError_t hipPeekAtLastError(void) { return last_error; }
