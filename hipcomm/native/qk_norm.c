/* The norm of q and k, whose rows lie across the ranks. */
#include <string.h>

#include "../abi/norm_args.h"
#include "current_device.h"
#include "plan.h"
#include "row_calls.h"
#include "row_checks.h"

static hipcommQkRows rows_of(const void* in, size_t in_stride, void* out, size_t out_stride, const void* weight,
                             hipcommDataType_t weight_dtype, size_t hidden, uint64_t size) {
    return (hipcommQkRows){
        .in = in,
        .in_stride = (in_stride ? in_stride : hidden) * size,
        .out = out,
        .out_stride = (out_stride ? out_stride : hidden) * size,
        .weight = weight,
        .weight_is_float32 = weight_dtype == hipcommFloat32,
        .hidden = (uint32_t)hidden,
    };
}

/* What all ranks must agree on, besides what Call says. */
static uint64_t agreed(const hipcommQkNorm* norm) {
    const float eps = (float)norm->eps;
    uint32_t bits;
    memcpy(&bits, &eps, sizeof bits);
    return add_to_hash(add_to_hash(add_to_hash(0, 3, norm->q_hidden), 4, bits), 5, norm->k_hidden);
}

static hipcommResult_t run_on_device(hipcommComm_t comm, const hipcommQkNorm* norm, hipStream_t stream) {
    hipcommResult_t result = check_qk_norm(comm, norm);
    if (result == hipcommSuccess) result = check_health(comm);
    if (result != hipcommSuccess) return result;
    const uint64_t size = dtype_size(norm->dtype), hidden = norm->q_hidden + norm->k_hidden;
    const Call call = {.operation = hipcommOpAllReduceQkNorm, .send = norm->q, .recv = norm->q_out,
                       .count = norm->tokens * hidden, .rows = 1, .dtype = norm->dtype, .details = agreed(norm)};
    hipcommPlanRequest request = comm->request;
    request.operation = call.operation;
    request.dtype = call.dtype;
    request.op = hipcommSum;
    request.bytes = call.count * size;
    request.hidden = (uint32_t)hidden;
    request.registered = 0;
    hipcommPlan plan;
    make_plan(&request, comm->row, &plan);
    hipcommQkNormArgs args = {
        .common = comm->args,
        .q = rows_of(norm->q, norm->q_stride, norm->q_out, norm->q_out_stride, norm->q_weight, norm->q_weight_dtype,
                     norm->q_hidden, size),
        .k = rows_of(norm->k, norm->k_stride, norm->k_out, norm->k_out_stride, norm->k_weight, norm->k_weight_dtype,
                     norm->k_hidden, size),
        .v = rows_of(norm->v, norm->v_stride, norm->v_out, norm->v_out_stride, NULL, norm->dtype,
                     norm->v == norm->v_out ? 0 : norm->v_hidden, size), /* in place it is there already */
        .eps = (float)norm->eps,
    };
    fill_args(&args.common, &call, &plan);
    args.common.bytes = request.bytes;
    const LaunchRows rows = {&args.first, &args.count, norm->tokens};
    return run_rows(comm, &call, &plan, &args, &rows, hidden, stream);
}

hipcommResult_t hipcommAllReduceQkNorm(const hipcommQkNorm* norm, hipcommComm_t comm, hipcommStream_t stream) {
    if (!is_live(comm)) return no_comm();
    int before;
    const hipcommResult_t result = enter_call(comm, stream, &before);
    if (result != hipcommSuccess) return result;
    return leave_call(comm, stream, before, run_on_device(comm, norm, stream));
}
