#include "kernel_table.h"

#include <stddef.h>

#include "tables.h"
#include "tuning.h"

/* Reductions come first: [algorithm][operation][dtype], named <algorithm>_<operation>_<dtype>; then one kernel
 * for all 8-bit floats and operations, <algorithm>_float8. The average runs the sum's kernel. An algorithm is
 * a file under kernels/; its twin for wide lines, where it has one, is in the same file (that of
 * reduce_scatter_one_shot is reduce_one_shot's). */
enum { kReductions = 4, kDtypes = hipcommBfloat16 + 1, kPerAlgorithm = kReductions * kDtypes + 1 };
enum {
    kAllReduceOneShot,
    kAllReduceTwoShot,
    kAllReducePipelined,
    kAllReduceDirect,
    kReduceOneShot,
    kReducePipelined,
    kReduceScatterDirect,
    kReduceScatterOneShot,
    kAllReduceStaged,
    kAllReduceOneShotWide,
    kAllReduceTwoShotWide,
    kReduceOneShotWide,
    kReducingAlgorithms
};

/* Behind them the kernels that only move data. */
enum {
    kAllGatherOneShot = kReducingAlgorithms * kPerAlgorithm,
    kAllGatherPipelined,
    kBroadcastOneShot,
    kBroadcastPipelined,
    kBarrier,
    kExchange,
    kExchangePipelined,
    kCheckCall,
    kAllGatherDirect,
    kBroadcastDirect,
    kExchangeDirect,
    kSend,
    kRecv,
    kAllGatherOneShotWide,
    kKernels
};

/* A code object's file: a file that reduces has one for each reduction, and one for the 8-bit floats. */
#define KERNEL_OF(file, name, wide) {#file, "hipcomm_" #name, wide}
#define DTYPES_OF(file, name, wide)                                                  \
    KERNEL_OF(file, name##_int8, wide), KERNEL_OF(file, name##_uint8, wide),         \
        KERNEL_OF(file, name##_int32, wide), KERNEL_OF(file, name##_uint32, wide),   \
        KERNEL_OF(file, name##_int64, wide), KERNEL_OF(file, name##_uint64, wide),   \
        KERNEL_OF(file, name##_float16, wide), KERNEL_OF(file, name##_float32, wide), \
        KERNEL_OF(file, name##_float64, wide), KERNEL_OF(file, name##_bfloat16, wide)
#define REDUCTIONS_OF(file, name, wide)                                                   \
    DTYPES_OF(file##_sum, name##_sum, wide), DTYPES_OF(file##_prod, name##_prod, wide),   \
        DTYPES_OF(file##_max, name##_max, wide), DTYPES_OF(file##_min, name##_min, wide), \
        KERNEL_OF(file##_float8, name##_float8, wide)
#define REDUCE(file) REDUCTIONS_OF(file, file, false)
#define REDUCE_WIDE(file) REDUCTIONS_OF(file, file##_wide, true)
#define MOVE(file) KERNEL_OF(file, file, false)

static const struct {
    const char* file;
    const char* name;
    bool wide;
} kernels[kKernels] = {
    REDUCE(all_reduce_one_shot),
    REDUCE(all_reduce_two_shot),
    REDUCE(all_reduce_pipelined),
    REDUCE(all_reduce_direct),
    REDUCE(reduce_one_shot),
    REDUCE(reduce_pipelined),
    REDUCE(reduce_scatter_direct),
    REDUCE(reduce_scatter_one_shot),
    REDUCE(all_reduce_staged),
    REDUCE_WIDE(all_reduce_one_shot),
    REDUCE_WIDE(all_reduce_two_shot),
    REDUCE_WIDE(reduce_one_shot),
    MOVE(all_gather_one_shot),
    MOVE(all_gather_pipelined),
    MOVE(broadcast_one_shot),
    MOVE(broadcast_pipelined),
    MOVE(barrier),
    MOVE(exchange),
    MOVE(exchange_pipelined),
    MOVE(check_call),
    MOVE(all_gather_direct),
    MOVE(broadcast_direct),
    MOVE(exchange_direct),
    MOVE(send),
    MOVE(recv),
    KERNEL_OF(all_gather_one_shot, all_gather_one_shot_wide, true),
};

static int reduction_index(int algorithm, hipcommDataType_t dtype, hipcommRedOp_t op) {
    if (dtype_is_float8(dtype)) return algorithm * kPerAlgorithm + kReductions * kDtypes;
    const int reduction = op == hipcommAvg ? hipcommSum : (int)op;
    return algorithm * kPerAlgorithm + reduction * kDtypes + (int)dtype;
}

static int direct_kernel_index(hipcommOperation_t operation, hipcommDataType_t dtype, hipcommRedOp_t op) {
    switch (operation) {
        case hipcommOpAllReduce: return reduction_index(kAllReduceDirect, dtype, op);
        case hipcommOpReduceScatter: return reduction_index(kReduceScatterDirect, dtype, op);
        case hipcommOpAllGather: return kAllGatherDirect;
        case hipcommOpBroadcast: return kBroadcastDirect;
        case hipcommOpAllToAll:
        case hipcommOpAllGatherv:
        case hipcommOpAllGatherRows: return kExchangeDirect;
        default: return -1;
    }
}

static int all_reduce_kernel_index(hipcommAlgorithm_t algorithm, hipcommDataType_t dtype, hipcommRedOp_t op) {
    switch (algorithm) {
        case hipcommAlgorithmOneShot: return reduction_index(kAllReduceOneShot, dtype, op);
        case hipcommAlgorithmTwoShot: return reduction_index(kAllReduceTwoShot, dtype, op);
        case hipcommAlgorithmPipelined: return reduction_index(kAllReducePipelined, dtype, op);
        case hipcommAlgorithmStaged: return reduction_index(kAllReduceStaged, dtype, op);
        default: return -1;
    }
}

int kernel_index(hipcommOperation_t operation, hipcommAlgorithm_t algorithm, hipcommDataType_t dtype,
                 hipcommRedOp_t op) {
    const bool one_shot = algorithm == hipcommAlgorithmOneShot;
    const bool pipelined = algorithm == hipcommAlgorithmPipelined;
    if (algorithm == hipcommAlgorithmDirect) return direct_kernel_index(operation, dtype, op);
    if (operation == hipcommOpAllReduce) return all_reduce_kernel_index(algorithm, dtype, op);
    if (!one_shot && !pipelined) return -1;
    switch (operation) {
        case hipcommOpReduceScatter:
            return reduction_index(one_shot ? kReduceScatterOneShot : kReducePipelined, dtype, op);
        case hipcommOpReduce: return reduction_index(one_shot ? kReduceOneShot : kReducePipelined, dtype, op);
        case hipcommOpAllGather: return one_shot ? kAllGatherOneShot : kAllGatherPipelined;
        case hipcommOpBroadcast: return one_shot ? kBroadcastOneShot : kBroadcastPipelined;
        case hipcommOpBarrier: return one_shot ? kBarrier : -1;
        case hipcommOpAllToAllv: return kExchange;
        case hipcommOpAllToAll:
        case hipcommOpAllGatherv:
        case hipcommOpAllGatherRows:
        case hipcommOpGather:
        case hipcommOpScatter: return one_shot ? kExchange : kExchangePipelined;
        case hipcommOpSend: return kSend;
        case hipcommOpRecv: return kRecv;
        default: return -1;
    }
}

int wide_kernel_index(int index) {
    if (index == kAllGatherOneShot) return kAllGatherOneShotWide;
    if (index < 0 || index >= kReducingAlgorithms * kPerAlgorithm) return -1;
    int wide;
    switch (index / kPerAlgorithm) {
        case kAllReduceOneShot: wide = kAllReduceOneShotWide; break;
        case kAllReduceTwoShot: wide = kAllReduceTwoShotWide; break;
        case kReduceScatterOneShot:
        case kReduceOneShot: wide = kReduceOneShotWide; break;
        default: return -1;
    }
    return wide * kPerAlgorithm + index % kPerAlgorithm;
}

int check_kernel_index(void) { return kCheckCall; }

int hipcommKernelCount(void) { return kKernels; }

hipcommResult_t hipcommKernelInfo(int index, const char** file, const char** name) {
    if (index < 0 || index >= kKernels || !file || !name) return hipcommInvalidArgument;
    *file = kernels[index].file;
    *name = kernels[index].name;
    return hipcommSuccess;
}

int hipcommKernelIsFor(const char* arch, int index) {
    if (index < 0 || index >= kKernels || !arch) return 0;
    return !kernels[index].wide || has_wide_lines(tuning_row(arch));
}
