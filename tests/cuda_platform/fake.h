/* A stand-in for libcuda.so.1 that notes calls, for tests on machines without a GPU.
 *
 * It keeps what the platform library's handling of contexts depends on, and nothing else: cuInit first, one
 * current context per thread, primary contexts.  Every other function notes its name and answers
 * CUDA_SUCCESS, or what fake_fail asked for; those whose arguments matter note them too (fake_driver.cpp).
 * Device d has the primary context 0xC0 + d.
 *
 * The environment says how many devices there are, FAKE_CUDA_DEVICES (2), and what cuInit answers,
 * FAKE_CUDA_INIT (0), and how new the driver is, FAKE_CUDA_VERSION (13000).
 */
#ifndef TESTS_CUDA_PLATFORM_FAKE_H
#define TESTS_CUDA_PLATFORM_FAKE_H

#include "cuda_driver.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace fake {

using namespace hipcomm::cuda;

// Adds a line to the journal.
__attribute__((format(printf, 1, 2))) void note(const char* format, ...);

// The answer of the function `name`: one that needs a context, and one that does not.
CUresult with_context(const char* name);
CUresult without_context(const char* name);

}  // namespace fake

#endif  // TESTS_CUDA_PLATFORM_FAKE_H
