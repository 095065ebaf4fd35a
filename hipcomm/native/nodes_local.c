/* Kernels that a rank of a world over nodes launches for itself: no plan, no peers, no epoch. */
#include "call.h"
#include "current_device.h"
#include "kernel_table.h"

/* Blocks of kernels that wait for nobody: more than are resident, so that none is idle early. */
enum { kMostBlocks = 1 << 12, kThreads = 256 };

/* How a launch is cut: a thread takes a pack, where there are threads enough. */
static hipcommPlan plan_packs(hipcommComm_t comm, int kernel, uint64_t bytes) {
    const uint32_t threads = comm->row->threads == 1 ? 1 : kThreads;
    const uint64_t packs = (bytes + HIPCOMM_PACK_BYTES - 1) / HIPCOMM_PACK_BYTES;
    const uint64_t wanted = threads == 1 ? 1 : (packs + threads - 1) / threads;
    return (hipcommPlan){
        .algorithm = hipcommAlgorithmLocal,
        .kernel = kernel,
        .blocks = (uint32_t)(wanted < 1 ? 1 : wanted < kMostBlocks ? wanted : kMostBlocks),
        .threads = threads,
    };
}

static hipcommResult_t launch_on_device(hipcommComm_t comm, const hipcommPlan* plan, hipcommKernelArgs* args,
                                        hipStream_t stream) {
    hipcommResult_t result = check_health(comm);
    if (result != hipcommSuccess) return result;
    args->blocks = plan->blocks;
    args->threads = plan->threads;
    bool capturing;
    result = enter_stream(comm, stream, &capturing);
    if (result == hipcommSuccess) result = launch(comm, plan, args, stream);
    return result == hipcommSuccess ? leave_stream(comm, stream, capturing) : result;
}

/* `args` is, or begins with, what is in the kernel's argument struct. */
static hipcommResult_t launch_alone(hipcommComm_t comm, int kernel, uint64_t bytes, hipcommKernelArgs* args,
                                    hipStream_t stream) {
    const hipcommPlan plan = plan_packs(comm, kernel, bytes);
    int before;
    const hipcommResult_t result = enter_call(comm, stream, &before);
    if (result != hipcommSuccess) return result;
    return leave_call(comm, stream, before, launch_on_device(comm, &plan, args, stream));
}

static hipcommPlanRequest request_of(hipcommDataType_t dtype, hipcommRedOp_t op) {
    return (hipcommPlanRequest){.dtype = dtype, .op = op};
}

static hipcommResult_t refuse(hipcommComm_t comm, const char* what) {
    return set_error(comm, hipcommInvalidArgument, "rank %u: a world over nodes: %s", comm->args.rank, what);
}

static bool is_narrow_float(hipcommDataType_t dtype) {
    return dtype == hipcommFloat16 || dtype == hipcommBfloat16 || dtype_is_float8(dtype);
}

/* A maximum is exact in any type, and of a world of one there is nothing to reduce: that much is widened. */
hipcommResult_t hipcommCommReduceScatterPartial(hipcommComm_t comm, const void* send, void* recv, size_t rows,
                                                size_t count, hipcommDataType_t dtype, hipcommRedOp_t op,
                                                hipcommStream_t stream) {
    if (!is_live(comm)) return no_comm();
    if (!is_narrow_float(dtype)) return refuse(comm, "only floats of up to 16 bits have partial results of another type");
    if (comm->args.world == 1) return hipcommCommWiden(comm, send, recv, rows * count, dtype, stream);
    if (!dtype_is_float8(dtype) && (op == hipcommMax || op == hipcommMin))
        return refuse(comm, "a maximum or minimum is exact in its own type");
    Call call = {.operation = hipcommOpReduceScatter, .send = send, .recv = recv, .rows = rows,
                 .count = rows ? count : 0, .dtype = dtype, .op = op, .is_partial = true};
    return run(comm, &call, NULL, NULL, stream);
}

hipcommResult_t hipcommCommWiden(hipcommComm_t comm, const void* send, void* recv, size_t count, hipcommDataType_t dtype,
                                 hipcommStream_t stream) {
    if (!is_live(comm)) return no_comm();
    if (!is_narrow_float(dtype)) return refuse(comm, "only floats of up to 16 bits are widened");
    if (count == 0) return hipcommSuccess;
    const hipcommPlanRequest request = request_of(dtype, hipcommSum);
    hipcommKernelArgs args = comm->args;
    args.send = send;
    args.recv = recv;
    args.bytes = count * dtype_size(dtype);
    args.float8 = float8_format(dtype);
    return launch_alone(comm, widen_kernel_index(&request), args.bytes, &args, stream);
}

hipcommResult_t hipcommCommFinish(hipcommComm_t comm, const hipcommPartials* partials, void* recv, size_t count,
                                  hipcommDataType_t dtype, hipcommRedOp_t op, hipcommStream_t stream) {
    if (!is_live(comm)) return no_comm();
    if (!dtype_is_valid((int)dtype) || !redop_is_valid((int)op)) return refuse(comm, "no such dtype or reduction");
    if (partials->nodes < 2 || partials->node >= partials->nodes) return refuse(comm, "no such nodes");
    if (count == 0) return hipcommSuccess;
    const hipcommPlanRequest request = request_of(dtype, op);
    hipcommPartialsArgs args = {
        .common = comm->args,
        .own = partials->own,
        .stride = partials->stride,
        .nodes = partials->nodes,
        .node = partials->node,
    };
    args.common.send = partials->partials;
    args.common.recv = recv;
    args.common.bytes = count * dtype_size(dtype);
    args.common.world = partials->divisor;
    args.common.average = op == hipcommAvg;
    args.common.float8 = float8_format(dtype);
    args.common.float8.reduction = (uint8_t)(op == hipcommAvg ? hipcommSum : op);
    return launch_alone(comm, finish_kernel_index(&request), args.common.bytes, &args.common, stream);
}

hipcommResult_t hipcommCommCopyRows(hipcommComm_t comm, const void* send, uint64_t send_stride, void* recv,
                                    uint64_t recv_stride, uint64_t bytes, uint64_t rows, hipcommStream_t stream) {
    if (!is_live(comm)) return no_comm();
    if (bytes == 0 || rows == 0) return hipcommSuccess;
    hipcommRowsArgs args = {
        .common = comm->args, .row_bytes = bytes, .send_stride = send_stride, .recv_stride = recv_stride};
    args.common.send = send;
    args.common.recv = recv;
    args.common.bytes = bytes * rows;
    return launch_alone(comm, copy_kernel_index(), args.common.bytes, &args.common, stream);
}

hipcommResult_t hipcommCommCountUp(hipcommComm_t comm, uint64_t* count, hipcommStream_t stream) {
    if (!is_live(comm)) return no_comm();
    hipcommKernelArgs args = comm->args;
    args.recv = count;
    return launch_alone(comm, count_kernel_index(), 0, &args, stream);
}
