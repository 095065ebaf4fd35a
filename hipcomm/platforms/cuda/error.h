/* Errors: CUDA's codes in HIP's words, and the last error of each thread. */
#ifndef HIPCOMM_PLATFORMS_CUDA_ERROR_H
#define HIPCOMM_PLATFORMS_CUDA_ERROR_H

#include "cuda_driver.h"

namespace hipcomm::cuda {

hipError_t translate(CUresult result);

// Remembers a failure for hipGetLastError and returns it as HIP's code.  hipErrorNotReady is an answer, not
// a failure, and is not remembered.
hipError_t report(hipError_t error);
hipError_t report(CUresult result);

// Adds words to what hipGetErrorString(error) says on the calling thread, until its next explanation: why
// the driver could not be loaded, or what the PTX assembler found wrong.
void explain(hipError_t error, const char* reason);

}  // namespace hipcomm::cuda

#endif  // HIPCOMM_PLATFORMS_CUDA_ERROR_H
