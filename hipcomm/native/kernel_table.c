#include "kernel_table.h"

#include <stddef.h>

#include "../abi/dtypes.def"
#include "../abi/kernels.def"
#include "../abi/reductions.def"
#include "row_plan.h"
#include "tables.h"
#include "tuning.h"

/* ---- sets of variants: how many, which of them a request takes, and their names ------------------------------ */

#define COUNT(...) +1
enum {
    kReductions = 0 HIPCOMM_KERNEL_REDUCTIONS(COUNT),
    kDtypes = 0 HIPCOMM_DTYPES(COUNT),
    kReducing = kReductions * kDtypes + 1,
    kNormDtypes = 3,
    kNorm = 3 * kNormDtypes,
    kRowDtype = kNormDtypes,
    kWidening = 3,
    kPartial = 5,
    kOne = 1
};

static int variant_Reducing(const hipcommPlanRequest* request) {
    if (dtype_is_float8(request->dtype)) return kReducing - 1;
    const int reduction = request->op == hipcommAvg ? hipcommSum : (int)request->op;
    return reduction * kDtypes + (int)request->dtype;
}
/* The plan refuses other dtypes of rows. */
static int variant_RowDtype(const hipcommPlanRequest* request) {
    return request->dtype == hipcommFloat16 ? 0 : request->dtype == hipcommBfloat16 ? 1 : 2;
}
/* RMSNorm of simple rows, LayerNorm of them, and the one for any rows, which is taken where the plan does not say simple. */
static int variant_Norm(const hipcommPlanRequest* request) { return 2 * kNormDtypes + variant_RowDtype(request); }
/* The same, with the 8-bit floats in float32's place, which needs no widening. */
static int variant_Widening(const hipcommPlanRequest* request) { return variant_RowDtype(request); }
static int variant_Partial(const hipcommPlanRequest* request) {
    if (dtype_is_float8(request->dtype)) return kPartial - 1;
    return (request->op == hipcommProd) * 2 + (request->dtype == hipcommBfloat16);
}
static int variant_One(const hipcommPlanRequest* request) {
    (void)request;
    return 0;
}

/* The code object that has a kernel: of a file that is compiled once, and of one that is compiled for a reduction. */
#define OBJECT(file) #file
#define REDUCTION_OBJECT(file, reduction) #file "_" #reduction

#define NAMES_OF_NORM(kernel, file, norm)                        \
    {OBJECT(file), "hipcomm_" #kernel "_" #norm "_float16"},     \
    {OBJECT(file), "hipcomm_" #kernel "_" #norm "_bfloat16"},    \
    {OBJECT(file), "hipcomm_" #kernel "_" #norm "_float32"},
#define NAMES_Norm(kernel, file)                                        \
    NAMES_OF_NORM(kernel, file, rms) NAMES_OF_NORM(kernel, file, layer) NAMES_OF_NORM(kernel, file, any)
#define NAMES_RowDtype(kernel, file)                  \
    {OBJECT(file), "hipcomm_" #kernel "_float16"},    \
    {OBJECT(file), "hipcomm_" #kernel "_bfloat16"},   \
    {OBJECT(file), "hipcomm_" #kernel "_float32"},
#define NAMES_Widening(kernel, file)                  \
    {OBJECT(file), "hipcomm_" #kernel "_float16"},    \
    {OBJECT(file), "hipcomm_" #kernel "_bfloat16"},   \
    {OBJECT(file), "hipcomm_" #kernel "_float8"},
#define NAMES_Partial(kernel, file)                     \
    {OBJECT(file), "hipcomm_" #kernel "_sum_float16"},   \
    {OBJECT(file), "hipcomm_" #kernel "_sum_bfloat16"},  \
    {OBJECT(file), "hipcomm_" #kernel "_prod_float16"},  \
    {OBJECT(file), "hipcomm_" #kernel "_prod_bfloat16"}, \
    {OBJECT(file), "hipcomm_" #kernel "_float8"},
#define NAMES_One(kernel, file) {OBJECT(file), "hipcomm_" #kernel},
#define NAME_OF_DTYPE(Dtype, dtype, number, bytes, type, kernel, file, op, ...) \
    {REDUCTION_OBJECT(file, op), "hipcomm_" #kernel "_" #op "_" #dtype},
#define NAMES_OF_REDUCTION(Op, op, number, kernel, file, ...) HIPCOMM_DTYPES(NAME_OF_DTYPE, kernel, file, op)
#define NAMES_Reducing(kernel, file)                           \
    HIPCOMM_KERNEL_REDUCTIONS(NAMES_OF_REDUCTION, kernel, file) \
    {REDUCTION_OBJECT(file, float8), "hipcomm_" #kernel "_float8"},

/* ---- the tables ------------------------------------------------------------------------------------------------ */

#define NUMBERS(kernel, file, variants, ...) kFirst_##kernel, kLast_##kernel = kFirst_##kernel + k##variants - 1,
enum { HIPCOMM_KERNELS(NUMBERS) kFirstWide, kBeforeWide = kFirstWide - 1, HIPCOMM_WIDE_KERNELS(NUMBERS) kKernels };

#define NAMES(kernel, file, variants, ...) NAMES_##variants(kernel, file)
static const struct {
    const char* object;
    const char* name;
} names[kKernels] = {HIPCOMM_KERNELS(NAMES) HIPCOMM_WIDE_KERNELS(NAMES)};

enum {
    kRow_none = -1,
#define ROW(kernel, ...) kRow_##kernel,
    HIPCOMM_KERNELS(ROW) HIPCOMM_WIDE_KERNELS(ROW) kRows
};

static const Kernel kernels[kRows] = {
#define KERNEL(kernel, file, variants, args, twin, ...) \
    [kRow_##kernel] = {kFirst_##kernel, variant_##variants, kArgs_##args, kRow_##twin < 0 ? NULL : &kernels[kRow_##twin]},
    HIPCOMM_KERNELS(KERNEL) HIPCOMM_WIDE_KERNELS(KERNEL)
};

static const Kernel* const runs[hipcommNumOperations][hipcommNumAlgorithms] = {
#define RUN(Operation, Algorithm, kernel, ...) \
    [hipcommOp##Operation][hipcommAlgorithm##Algorithm] = &kernels[kRow_##kernel],
    HIPCOMM_RUNS(RUN)
};

const Kernel* kernel_of(hipcommOperation_t operation, hipcommAlgorithm_t algorithm) {
    return runs[operation][algorithm];
}

int kernel_for_simple_rows(const Kernel* kernel, const hipcommPlanRequest* request) {
    if (kernel->variant != variant_Norm) return kernel->first + kernel->variant(request);
    return kernel->first + is_layer_norm(request->operation) * kNormDtypes + variant_RowDtype(request);
}

int check_kernel_index(void) { return kFirst_check_call; }
int finish_kernel_index(const hipcommPlanRequest* request) { return kFirst_finish_partials + variant_Reducing(request); }
int widen_kernel_index(const hipcommPlanRequest* request) { return kFirst_widen + variant_Widening(request); }
int partial_kernel_index(const hipcommPlanRequest* request) {
    return kFirst_reduce_scatter_partial + variant_Partial(request);
}
int copy_kernel_index(void) { return kFirst_copy_rows; }
int count_kernel_index(void) { return kFirst_count_up; }

int hipcommKernelCount(void) { return kKernels; }

hipcommResult_t hipcommKernelInfo(int index, const char** file, const char** name) {
    if (index < 0 || index >= kKernels || !file || !name) return hipcommInvalidArgument;
    *file = names[index].object;
    *name = names[index].name;
    return hipcommSuccess;
}

int hipcommKernelIsFor(const char* arch, int index) {
    if (index < 0 || index >= kKernels || !arch) return 0;
    return index < kFirstWide || has_wide_lines(tuning_row(arch));
}
