// What an interpreted kernel does that it must not, or that the interpreter does not know.
#pragma once

#include <stdexcept>
#include <string>

namespace hipcomm::amd {

// Ends the launch. The sentence says what is wrong; the wave's position is added where it is caught.
struct Fault : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// printf into a Fault.
[[noreturn]] void refuse(const char* format, ...) __attribute__((format(printf, 1, 2)));

}  // namespace hipcomm::amd
