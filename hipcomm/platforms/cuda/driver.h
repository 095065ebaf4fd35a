/* The CUDA driver as a table of functions, filled from libcuda.so.1 at the first call. */
#ifndef HIPCOMM_PLATFORMS_CUDA_DRIVER_H
#define HIPCOMM_PLATFORMS_CUDA_DRIVER_H

#include <atomic>

#include "cuda_driver.h"

namespace hipcomm::cuda {

// One driver function.  Until the driver is loaded it answers CUDA_ERROR_NOT_INITIALIZED, as the driver
// itself does before cuInit, so callers test for one thing.  The pointer changes once, from that stand-in to
// the function, and a relaxed load is an ordinary load: the atomic costs nothing.
template <class Signature>
class Entry;

template <class... Parameters>
class Entry<CUresult(Parameters...)> {
public:
    using Function = CUresult(Parameters...);

    CUresult operator()(Parameters... arguments) const {
        return function_.load(std::memory_order_relaxed)(arguments...);
    }
    void bind(void* symbol) {
        function_.store(reinterpret_cast<Function*>(symbol), std::memory_order_relaxed);
    }
    bool bound() const { return function_.load(std::memory_order_relaxed) != &not_loaded; }

private:
    static CUresult not_loaded(Parameters...) { return CUDA_ERROR_NOT_INITIALIZED; }

    std::atomic<Function*> function_{&not_loaded};
};

struct Driver {
#define HIPCOMM_DECLARE(name, parameters) Entry<CUresult parameters> name;
    HIPCOMM_CUDA_FUNCTIONS(HIPCOMM_DECLARE)
    HIPCOMM_CUDA_OPTIONAL_FUNCTIONS(HIPCOMM_DECLARE)
#undef HIPCOMM_DECLARE
};

extern Driver driver;

// Loads the driver and calls cuInit, once per process.  Every later call gives the first one's result:
// CUDA_ERROR_NO_DEVICE where there is no driver, CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER where it lacks a
// function, else cuInit's.  Creates no context.  A failure is explained to hipGetErrorString.
CUresult initialize_driver();

}  // namespace hipcomm::cuda

#endif  // HIPCOMM_PLATFORMS_CUDA_DRIVER_H
