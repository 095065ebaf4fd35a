#include "kernel_table.h"

#include <stddef.h>

#include "names.h"

/* Reductions come first: [algorithm][operation][dtype], named <file>_<operation>_<dtype>. The average
 * runs the sum's kernel. */
enum { kReducingAlgorithms = 3, kReductions = 4, kDtypes = hipcommNumDataTypes };
enum { kReductionKernels = kReducingAlgorithms * kReductions * kDtypes };

#define DTYPES_OF(file, op)                                                                           \
    {#file, "hipcomm_" #file "_" #op "_int8"}, {#file, "hipcomm_" #file "_" #op "_uint8"},            \
        {#file, "hipcomm_" #file "_" #op "_int32"}, {#file, "hipcomm_" #file "_" #op "_uint32"},      \
        {#file, "hipcomm_" #file "_" #op "_int64"}, {#file, "hipcomm_" #file "_" #op "_uint64"},      \
        {#file, "hipcomm_" #file "_" #op "_float16"}, {#file, "hipcomm_" #file "_" #op "_float32"},   \
        {#file, "hipcomm_" #file "_" #op "_float64"}, { #file, "hipcomm_" #file "_" #op "_bfloat16" }
#define REDUCTIONS_OF(file) \
    DTYPES_OF(file, sum), DTYPES_OF(file, prod), DTYPES_OF(file, max), DTYPES_OF(file, min)
#define MOVE(file) \
    { #file, "hipcomm_" #file }

static const struct {
    const char* file;
    const char* name;
} kernels[] = {
    REDUCTIONS_OF(all_reduce_one_shot),
    REDUCTIONS_OF(all_reduce_two_shot),
    REDUCTIONS_OF(all_reduce_pipelined),
    MOVE(all_gather_one_shot),
    MOVE(all_gather_pipelined),
    MOVE(broadcast_one_shot),
    MOVE(broadcast_pipelined),
    MOVE(barrier),
    REDUCTIONS_OF(all_reduce_direct),
    MOVE(all_gather_direct),
};
enum { kKernels = sizeof kernels / sizeof kernels[0] };

/* The direct kernels stand behind all others. */
static int direct_kernel_index(hipcommOperation_t operation, hipcommDataType_t dtype, hipcommRedOp_t op) {
    enum { kFirst = kReductionKernels + 5, kAllGather = kFirst + kReductions * kDtypes };
    const int reduction = op == hipcommAvg ? hipcommSum : (int)op;
    switch (operation) {
        case hipcommOpAllReduce: return kFirst + reduction * kDtypes + (int)dtype;
        case hipcommOpAllGather: return kAllGather;
        default: return -1;
    }
}

int kernel_index(hipcommOperation_t operation, hipcommAlgorithm_t algorithm, hipcommDataType_t dtype,
                 hipcommRedOp_t op) {
    const bool one_shot = algorithm == hipcommAlgorithmOneShot;
    const bool pipelined = algorithm == hipcommAlgorithmPipelined;
    if (algorithm == hipcommAlgorithmDirect) return direct_kernel_index(operation, dtype, op);
    switch (operation) {
        case hipcommOpAllReduce: {
            if (algorithm < hipcommAlgorithmOneShot || algorithm > hipcommAlgorithmPipelined) return -1;
            const int reduction = op == hipcommAvg ? hipcommSum : (int)op;
            return ((int)(algorithm - hipcommAlgorithmOneShot) * kReductions + reduction) * kDtypes + (int)dtype;
        }
        case hipcommOpAllGather: return one_shot ? kReductionKernels : pipelined ? kReductionKernels + 1 : -1;
        case hipcommOpBroadcast: return one_shot ? kReductionKernels + 2 : pipelined ? kReductionKernels + 3 : -1;
        case hipcommOpBarrier: return one_shot ? kReductionKernels + 4 : -1;
        default: return -1;
    }
}

int hipcommKernelCount(void) { return kKernels; }

hipcommResult_t hipcommKernelInfo(int index, const char** file, const char** name) {
    if (index < 0 || index >= kKernels || !file || !name) return hipcommInvalidArgument;
    *file = kernels[index].file;
    *name = kernels[index].name;
    return hipcommSuccess;
}
