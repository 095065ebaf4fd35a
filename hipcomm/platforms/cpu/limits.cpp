#include "limits.h"

#include <sys/resource.h>

#include <cstring>

#include "error.h"

namespace hipcomm::cpu {
namespace {

std::string limit_of(decltype(RLIMIT_NOFILE) resource, const char* shell) {
    rlimit limit;
    if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return "";
    return ", and the limit (ulimit " + std::string(shell) + ") is " + std::to_string(limit.rlim_cur);
}

}  // namespace

bool raise_descriptor_limit() {
    rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return false;
    limit.rlim_cur = limit.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

std::string descriptor_limit() { return limit_of(RLIMIT_NOFILE, "-n"); }

hipError_t out_of_memory(int error, size_t bytes) {
    std::string words = std::to_string(bytes) + " bytes: " + std::strerror(error);
    if (error == EMFILE) words += ": every allocation needs a file descriptor" + descriptor_limit();
    if (error == EFBIG) words += ": every allocation is a file" + limit_of(RLIMIT_FSIZE, "-f, there in KiB");
    if (error == ENOMEM) words += limit_of(RLIMIT_AS, "-v, there in KiB");
    explain(hipErrorOutOfMemory, words);
    return hipErrorOutOfMemory;
}

}  // namespace hipcomm::cpu
