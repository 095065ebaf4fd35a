/* The kernels of a file that reduces. The build compiles such a file once for each reduction, into an object of its
 * own, <file>_<reduction>, and once more for the 8-bit floats, whose one kernel does all reductions: <file>_float8.
 * HIPCOMM_REDUCTION or HIPCOMM_FLOAT8 says which. Kernels are named <algorithm>_<reduction>_<dtype> and
 * <algorithm>_float8, as in hipcomm/native/kernel_table.c; the average runs the sum's with args.average set. */
#pragma once

#include "../../hipcomm/abi/dtypes.def"
#include "../../hipcomm/abi/reductions.def"
#include "reduce.h"

#if defined(HIPCOMM_REDUCTION)

/* The reductions by the names that the build uses. */
namespace reductions {
#define NAME_IN_BUILD(Name, name, ...) using name = Name;
HIPCOMM_KERNEL_REDUCTIONS(NAME_IN_BUILD)
#undef NAME_IN_BUILD
}

#define KERNEL_OF_DTYPE(Name, dtype, number, bytes, T, algorithm, reduction, Args, most_threads) \
    KERNEL(hipcomm_##algorithm##_##reduction##_##dtype, (algorithm<T, reductions::reduction>), Args, most_threads)
#define KERNELS_OF_REDUCTION(...) HIPCOMM_DTYPES(KERNEL_OF_DTYPE, __VA_ARGS__)
#define REDUCTION_KERNELS(algorithm, Args, most_threads) \
    KERNELS_OF_REDUCTION(algorithm, HIPCOMM_REDUCTION, Args, most_threads)

#elif defined(HIPCOMM_FLOAT8)

#define REDUCTION_KERNELS(algorithm, Args, most_threads) \
    KERNEL(hipcomm_##algorithm##_float8, (algorithm<Float8, AnyOperation>), Args, most_threads)

#else
#error "a file that reduces is compiled with -DHIPCOMM_REDUCTION=<name>, or with -DHIPCOMM_FLOAT8"
#endif
