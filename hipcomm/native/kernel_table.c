#include "kernel_table.h"

#include <stddef.h>

#include "names.h"

/* Reductions come first: [file][operation][dtype], named <file>_<operation>_<dtype>; then one kernel for all
 * 8-bit floats and operations, <file>_float8. The average runs the sum's kernel. */
enum { kReductions = 4, kDtypes = hipcommBfloat16 + 1, kPerFile = kReductions * kDtypes + 1 };
enum {
    kAllReduceOneShot,
    kAllReduceTwoShot,
    kAllReducePipelined,
    kAllReduceDirect,
    kReduceOneShot,
    kReducePipelined,
    kReduceScatterDirect,
    kReducingFiles
};

/* Behind them the kernels that only move data. */
enum {
    kAllGatherOneShot = kReducingFiles * kPerFile,
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
    kKernels
};

#define DTYPES_OF(file, op)                                                                           \
    {#file, "hipcomm_" #file "_" #op "_int8"}, {#file, "hipcomm_" #file "_" #op "_uint8"},            \
        {#file, "hipcomm_" #file "_" #op "_int32"}, {#file, "hipcomm_" #file "_" #op "_uint32"},      \
        {#file, "hipcomm_" #file "_" #op "_int64"}, {#file, "hipcomm_" #file "_" #op "_uint64"},      \
        {#file, "hipcomm_" #file "_" #op "_float16"}, {#file, "hipcomm_" #file "_" #op "_float32"},   \
        {#file, "hipcomm_" #file "_" #op "_float64"}, { #file, "hipcomm_" #file "_" #op "_bfloat16" }
#define REDUCTIONS_OF(file)                                                                  \
    DTYPES_OF(file, sum), DTYPES_OF(file, prod), DTYPES_OF(file, max), DTYPES_OF(file, min), \
        { #file, "hipcomm_" #file "_float8" }
#define MOVE(file) \
    { #file, "hipcomm_" #file }

static const struct {
    const char* file;
    const char* name;
} kernels[kKernels] = {
    REDUCTIONS_OF(all_reduce_one_shot),
    REDUCTIONS_OF(all_reduce_two_shot),
    REDUCTIONS_OF(all_reduce_pipelined),
    REDUCTIONS_OF(all_reduce_direct),
    REDUCTIONS_OF(reduce_one_shot),
    REDUCTIONS_OF(reduce_pipelined),
    REDUCTIONS_OF(reduce_scatter_direct),
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
};

static int reduction_index(int file, hipcommDataType_t dtype, hipcommRedOp_t op) {
    if (dtype_is_float8(dtype)) return file * kPerFile + kReductions * kDtypes;
    const int reduction = op == hipcommAvg ? hipcommSum : (int)op;
    return file * kPerFile + reduction * kDtypes + (int)dtype;
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

int kernel_index(hipcommOperation_t operation, hipcommAlgorithm_t algorithm, hipcommDataType_t dtype,
                 hipcommRedOp_t op) {
    const bool one_shot = algorithm == hipcommAlgorithmOneShot;
    const bool pipelined = algorithm == hipcommAlgorithmPipelined;
    if (algorithm == hipcommAlgorithmDirect) return direct_kernel_index(operation, dtype, op);
    if (!one_shot && !pipelined && (operation != hipcommOpAllReduce || algorithm != hipcommAlgorithmTwoShot))
        return -1;
    switch (operation) {
        case hipcommOpAllReduce:
            return reduction_index(kAllReduceOneShot + (int)(algorithm - hipcommAlgorithmOneShot), dtype, op);
        case hipcommOpReduceScatter:
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

int check_kernel_index(void) { return kCheckCall; }

int hipcommKernelCount(void) { return kKernels; }

hipcommResult_t hipcommKernelInfo(int index, const char** file, const char** name) {
    if (index < 0 || index >= kKernels || !file || !name) return hipcommInvalidArgument;
    *file = kernels[index].file;
    *name = kernels[index].name;
    return hipcommSuccess;
}
