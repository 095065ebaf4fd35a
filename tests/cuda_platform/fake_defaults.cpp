/* Every driver function, for those that fake_driver.cpp does not define. */
#include "fake.h"

#pragma GCC diagnostic ignored "-Wunused-parameter"

using namespace hipcomm::cuda;

#define DEFINE(name, parameters)                            \
    EXPORT __attribute__((weak)) CUresult name parameters { \
        fake::note(#name);                                  \
        return fake::with_context(#name);                   \
    }
HIPCOMM_CUDA_FUNCTIONS(DEFINE)
HIPCOMM_CUDA_OPTIONAL_FUNCTIONS(DEFINE)
