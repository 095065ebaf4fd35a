// Results of HIP calls: the last error of each thread, and a shell that no exception leaves.
#pragma once

#include <new>
#include <string>
#include <system_error>

#include "hip_functions.h"

namespace hipcomm::cpu {

// Remembers a failure for hipGetLastError and passes the result on.
hipError_t report(hipError_t result) noexcept;

// Adds words to what hipGetErrorString(error) says on the calling thread, until its next explanation.
void explain(hipError_t error, const std::string& words);

// Runs the body of a HIP function.  A C caller cannot catch what the containers and locks inside throw.
template <class Body>
hipError_t api(Body&& body) noexcept {
    try {
        return report(body());
    } catch (const std::bad_alloc&) {
        return report(hipErrorOutOfMemory);
    } catch (const std::system_error&) {
        return report(hipErrorOperatingSystem);
    } catch (...) {
        return report(hipErrorUnknown);
    }
}

}  // namespace hipcomm::cpu
