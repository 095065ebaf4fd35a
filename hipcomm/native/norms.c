/* Norms over rows, fused with the all-reduce or alone. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../abi/norm_args.h"
#include "call_check.h"
#include "call_log.h"
#include "current_device.h"
#include "row_plan.h"

static bool has_bias(hipcommOperation_t operation) {
    return operation == hipcommOpAddLayerNorm || operation == hipcommOpAllReduceLayerNorm;
}

__attribute__((format(printf, 3, 4))) static hipcommResult_t refuse(hipcommComm_t comm, hipcommOperation_t operation,
                                                                    const char* format, ...) {
    char what[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    return set_error(comm, hipcommInvalidArgument, "rank %u: %s: %s", comm->args.rank, operation_row(operation)->name, what);
}

static hipcommResult_t refuse_row(hipcommComm_t comm, hipcommOperation_t operation, uint64_t hidden) {
    return refuse(comm, operation, "not one row of %llu elements fits into the staging slab of a world of %u; "
                  "HIPCOMM_STAGING_BYTES sets its size", (unsigned long long)hidden, comm->args.world);
}

/* ---- argument checks --------------------------------------------------------------------------------- */

/* One of a call's arrays of rows; address NULL: there is none. */
typedef struct Rows {
    const char* name;
    const char* address;
    uint64_t stride; /* bytes */
    uint64_t row_bytes;
    uint64_t tokens;
} Rows;

static uint64_t extent_of(const Rows* rows) { return (rows->tokens - 1) * rows->stride + rows->row_bytes; }

static bool are_same(const Rows* a, const Rows* b) { return a->address == b->address && a->stride == b->stride; }

/* Whether they share a byte. Rows of one stride may lie side by side: columns of one array. */
static bool share_memory(const Rows* a, const Rows* b) {
    if (!a->address || !b->address || a->tokens == 0) return false;
    if (a->address >= b->address + extent_of(b) || b->address >= a->address + extent_of(a)) return false;
    if (a->stride != b->stride) return true;
    const uint64_t between = a->address < b->address ? (uint64_t)(b->address - a->address) % a->stride
                                                     : (a->stride - (uint64_t)(a->address - b->address) % a->stride) % a->stride;
    return between < a->row_bytes || a->stride - between < b->row_bytes;
}

static Rows rows_of(const hipcommNorm* norm, const char* name, const void* address, size_t stride) {
    const uint64_t size = dtype_size(norm->dtype);
    return (Rows){name, address, (stride ? stride : norm->hidden) * size, norm->hidden * size, norm->tokens};
}

static hipcommResult_t check_numbers(hipcommComm_t comm, hipcommOperation_t operation, const hipcommNorm* norm) {
    if (norm->dtype != hipcommFloat16 && norm->dtype != hipcommBfloat16 && norm->dtype != hipcommFloat32)
        return refuse(comm, operation, "dtype %s is none of float16, bfloat16 and float32",
                      dtype_is_valid((int)norm->dtype) ? dtype_name(norm->dtype) : "of this number");
    if (norm->hidden < 1 || norm->hidden > HIPCOMM_MAX_HIDDEN)
        return refuse(comm, operation, "rows of %zu elements: hidden is 1 to %u", norm->hidden, HIPCOMM_MAX_HIDDEN);
    if (!isfinite(norm->eps) || norm->eps < 0 || !isfinite((float)norm->eps))
        return refuse(comm, operation, "eps %g is not a finite float32 of at least 0", norm->eps);
    if (!isfinite((float)norm->weight_offset))
        return refuse(comm, operation, "weight_offset %g is not a finite float32", norm->weight_offset);
    if (norm->weight && norm->weight_dtype != norm->dtype && norm->weight_dtype != hipcommFloat32)
        return refuse(comm, operation, "weight is neither of x's dtype %s nor float32", dtype_name(norm->dtype));
    if (norm->bias && norm->bias_dtype != norm->dtype && norm->bias_dtype != hipcommFloat32)
        return refuse(comm, operation, "bias is neither of x's dtype %s nor float32", dtype_name(norm->dtype));
    if (norm->bias && !has_bias(operation)) return refuse(comm, operation, "this norm has no bias");
    return hipcommSuccess;
}

static hipcommResult_t check_rows(hipcommComm_t comm, hipcommOperation_t operation, const hipcommNorm* norm,
                                  const Rows* rows) {
    if (!rows->address) return hipcommSuccess;
    if (rows->stride < rows->row_bytes)
        return refuse(comm, operation, "%s: rows of %zu elements lie %llu apart", rows->name, norm->hidden,
                      (unsigned long long)(rows->stride / dtype_size(norm->dtype)));
    if (norm->tokens > HIPCOMM_MAX_MESSAGE_BYTES / rows->stride)
        return refuse(comm, operation, "%s: %zu rows are not possible", rows->name, norm->tokens);
    if (norm->tokens && extent_of(rows) > UINTPTR_MAX - (uintptr_t)rows->address)
        return refuse(comm, operation, "%s: %zu rows from %p on go past the end of memory", rows->name, norm->tokens,
                      (const void*)rows->address);
    return hipcommSuccess;
}

/* An output may be x or the residual, row by row, for a row is read before it is written; and nothing else. */
static hipcommResult_t check_output(hipcommComm_t comm, hipcommOperation_t operation, const Rows* output,
                                    const Rows* others, int count) {
    for (int i = 0; i < count; ++i)
        if (share_memory(output, &others[i]) && !are_same(output, &others[i]))
            return refuse(comm, operation, "%s and %s overlap without being the same rows", output->name,
                          others[i].name);
    return hipcommSuccess;
}

static bool touches(const Rows* output, const void* parameters, uint64_t bytes) {
    const char* begin = parameters;
    return output->address && begin && output->tokens && begin < output->address + extent_of(output) &&
           output->address < begin + bytes;
}

static hipcommResult_t check_norm(hipcommComm_t comm, hipcommOperation_t operation, const hipcommNorm* norm) {
    if (!norm) return refuse(comm, operation, "norm is NULL");
    if (norm->size != sizeof *norm)
        return refuse(comm, operation, "size %zu is not that of this library's hipcommNorm, %zu: was the program compiled "
                      "with another hipcomm.h?", norm->size, sizeof *norm);
    hipcommResult_t result = check_numbers(comm, operation, norm);
    if (result != hipcommSuccess) return result;
    if (norm->tokens && !norm->x) return refuse(comm, operation, "x is NULL with %zu tokens", norm->tokens);
    if (norm->tokens && !norm->out && !norm->residual_out)
        return refuse(comm, operation, "out and residual_out are both NULL: there is nothing to write");
    const Rows inputs[] = {rows_of(norm, "x", norm->x, norm->x_stride),
                           rows_of(norm, "residual", norm->residual, norm->residual_stride)};
    const Rows outputs[] = {rows_of(norm, "out", norm->out, norm->out_stride),
                            rows_of(norm, "residual_out", norm->residual_out, norm->residual_out_stride)};
    for (int i = 0; i < 2 && result == hipcommSuccess; ++i) {
        result = check_rows(comm, operation, norm, &inputs[i]);
        if (result == hipcommSuccess) result = check_rows(comm, operation, norm, &outputs[i]);
    }
    for (int i = 0; i < 2 && result == hipcommSuccess; ++i) {
        result = check_output(comm, operation, &outputs[i], inputs, 2);
        if (touches(&outputs[i], norm->weight, norm->hidden * dtype_size(norm->weight_dtype)))
            return refuse(comm, operation, "%s and weight overlap", outputs[i].name);
        if (touches(&outputs[i], norm->bias, norm->hidden * dtype_size(norm->bias_dtype)))
            return refuse(comm, operation, "%s and bias overlap", outputs[i].name);
    }
    if (result == hipcommSuccess && share_memory(&outputs[0], &outputs[1]))
        return refuse(comm, operation, "out and residual_out overlap");
    return result;
}

/* ---- the calls -------------------------------------------------------------------------------------------*/

static hipcommPlan plan_of(hipcommComm_t comm, const Call* call, uint64_t hidden) {
    hipcommPlanRequest request = comm->request;
    request.operation = call->operation;
    request.dtype = call->dtype;
    request.op = hipcommSum;
    request.bytes = call->count * dtype_size(call->dtype);
    request.hidden = (uint32_t)hidden;
    request.registered = 0;
    hipcommPlan plan;
    make_plan(&request, comm->row, &plan);
    return plan;
}

/* Whether everything may be moved in packs. */
static bool is_in_whole_packs(const hipcommNormArgs* args, uint64_t row_bytes) {
    const uint64_t all = (uint64_t)(uintptr_t)args->common.send | (uintptr_t)args->residual | (uintptr_t)args->weight |
                         (uintptr_t)args->bias | (uintptr_t)args->out | (uintptr_t)args->residual_out |
                         args->x_stride | args->residual_stride | args->out_stride | args->residual_out_stride | row_bytes;
    return all % HIPCOMM_PACK_BYTES == 0;
}

static hipcommNormArgs args_of(hipcommComm_t comm, const hipcommNorm* norm, const Call* call, const hipcommPlan* plan) {
    const uint64_t size = dtype_size(norm->dtype);
    const uint64_t row = norm->hidden * size;
    hipcommNormArgs args = {
        .common = comm->args,
        .x_stride = norm->x_stride ? norm->x_stride * size : row,
        .residual = norm->residual,
        .residual_stride = norm->residual_stride ? norm->residual_stride * size : row,
        .weight = norm->weight,
        .bias = norm->bias,
        .out = norm->out,
        .out_stride = norm->out_stride ? norm->out_stride * size : row,
        .residual_out = norm->residual_out,
        .residual_out_stride = norm->residual_out_stride ? norm->residual_out_stride * size : row,
        .tokens = norm->tokens,
        .hidden = (uint32_t)norm->hidden,
        .eps = (float)norm->eps,
        .weight_offset = (float)norm->weight_offset,
        .weight_is_float32 = norm->weight_dtype == hipcommFloat32,
        .bias_is_float32 = norm->bias_dtype == hipcommFloat32,
        .kept_slices = plan->kept_slices,
        .lane_slices = plan->lane_slices,
    };
    fill_args(&args.common, call, plan);
    args.common.send = norm->x;
    args.common.bytes = call->count * size;
    args.simple_rows = plan->kept_slices == 0 && is_in_whole_packs(&args, row);
    return args;
}

/* Launch after launch until all rows are done; where rows have owners, a launch takes as many of each. */
static hipcommResult_t launch_rows(hipcommComm_t comm, hipcommNormArgs* args, const hipcommPlan* plan,
                                   hipStream_t stream) {
    const uint64_t world = comm->args.world;
    const uint64_t rows = plan->algorithm == hipcommAlgorithmPipelined ? (args->tokens + world - 1) / world : args->tokens;
    for (args->first = 0; args->first < rows; args->first += args->count) {
        const uint64_t left = rows - args->first;
        args->count = left < plan->rows_per_launch ? left : plan->rows_per_launch;
        const hipcommResult_t result = launch(comm, plan, args, stream);
        if (result != hipcommSuccess) return result;
    }
    return hipcommSuccess;
}

/* The ranks compare the length of rows too: as what each pair sends and receives. */
static hipcommResult_t check_ranks(hipcommComm_t comm, const Call* call, const hipcommNorm* norm, hipStream_t stream,
                                   bool capturing) {
    hipcommSegment segments[HIPCOMM_MAX_RANKS];
    for (uint32_t rank = 0; rank < comm->args.world; ++rank)
        segments[rank] = (hipcommSegment){.send_bytes = norm->hidden, .recv_bytes = norm->hidden};
    return check_peers(comm, call, call->count * dtype_size(call->dtype), segments, stream, capturing);
}

/* What all ranks must agree on, besides what Call says. */
static uint64_t agreed(const hipcommNorm* norm) {
    const float eps = (float)norm->eps, offset = (float)norm->weight_offset;
    uint32_t eps_bits, offset_bits;
    memcpy(&eps_bits, &eps, sizeof eps_bits);
    memcpy(&offset_bits, &offset, sizeof offset_bits);
    const uint64_t parts = (norm->residual != NULL) | (norm->weight != NULL) << 1 | (norm->bias != NULL) << 2 |
                           (norm->weight ? norm->weight_dtype : 0) << 8 | (norm->bias ? norm->bias_dtype : 0) << 16;
    uint64_t hash = add_to_hash(0, 3, norm->hidden);
    hash = add_to_hash(hash, 4, eps_bits);
    hash = add_to_hash(hash, 5, offset_bits);
    return add_to_hash(hash, 6, parts);
}

static hipcommResult_t run_on_device(hipcommComm_t comm, hipcommOperation_t operation, const hipcommNorm* norm,
                                     hipStream_t stream) {
    hipcommResult_t result = check_norm(comm, operation, norm);
    if (result == hipcommSuccess) result = check_health(comm);
    if (result != hipcommSuccess) return result;
    const Call call = {.operation = operation, .send = norm->x, .recv = norm->out, .count = norm->tokens * norm->hidden,
                       .rows = 1, .dtype = norm->dtype, .details = agreed(norm)};
    const hipcommPlan plan = plan_of(comm, &call, norm->hidden);
    if (call.count && plan.kernel < 0)
        return refuse_row(comm, operation, norm->hidden);
    if (comm->log) log_call(comm, &call, call.count * dtype_size(call.dtype), &plan);
    hipcommNormArgs args = args_of(comm, norm, &call, &plan);
    if (plan.algorithm == hipcommAlgorithmLocal) return launch_rows(comm, &args, &plan, stream); /* no peers, no order */
    const bool compares = comm->check && operations[operation].compared != kCompareNothing;
    if (plan.kernel < 0 && !compares) return hipcommSuccess;

    bool capturing;
    result = enter_stream(comm, stream, &capturing);
    if (result == hipcommSuccess && compares) result = check_ranks(comm, &call, norm, stream, capturing);
    if (result == hipcommSuccess && plan.kernel >= 0) result = launch_rows(comm, &args, &plan, stream);
    if (result != hipcommSuccess) return result;
    result = leave_stream(comm, stream, capturing);
    /* where launches are synchronous (the CPU platform), a failure belongs to this very call */
    return result == hipcommSuccess ? check_health(comm) : result;
}

static hipcommResult_t run_norm(hipcommComm_t comm, hipcommOperation_t operation, const hipcommNorm* norm,
                                hipcommStream_t stream) {
    if (!is_live(comm)) return no_comm();
    int before;
    const hipcommResult_t result = enter_call(comm, stream, &before);
    if (result != hipcommSuccess) return result;
    return leave_call(comm, stream, before, run_on_device(comm, operation, norm, stream));
}

hipcommResult_t hipcommAddRmsNorm(const hipcommNorm* norm, hipcommComm_t comm, hipcommStream_t stream) {
    return run_norm(comm, hipcommOpAddRmsNorm, norm, stream);
}
hipcommResult_t hipcommAddLayerNorm(const hipcommNorm* norm, hipcommComm_t comm, hipcommStream_t stream) {
    return run_norm(comm, hipcommOpAddLayerNorm, norm, stream);
}
hipcommResult_t hipcommAllReduceRmsNorm(const hipcommNorm* norm, hipcommComm_t comm, hipcommStream_t stream) {
    return run_norm(comm, hipcommOpAllReduceRmsNorm, norm, stream);
}
hipcommResult_t hipcommAllReduceLayerNorm(const hipcommNorm* norm, hipcommComm_t comm, hipcommStream_t stream) {
    return run_norm(comm, hipcommOpAllReduceLayerNorm, norm, stream);
}

hipcommResult_t hipcommCommPlanNorm(hipcommComm_t comm, hipcommOperation_t operation, uint64_t tokens, uint64_t hidden,
                                    hipcommDataType_t dtype, hipcommPlan* plan) {
    if (!is_live(comm)) return no_comm();
    if (!is_norm(operation) || !plan || !dtype_is_valid((int)dtype) || hidden < 1 || hidden > HIPCOMM_MAX_HIDDEN ||
        tokens > HIPCOMM_MAX_MESSAGE_BYTES / (hidden * dtype_size(dtype)))
        return set_error(comm, hipcommInvalidArgument, "rank %u: no such norm to plan", comm->args.rank);
    hipcommPlanRequest request = comm->request;
    request.operation = operation;
    request.dtype = dtype;
    request.op = hipcommSum;
    request.registered = 0;
    request.hidden = (uint32_t)hidden;
    request.bytes = tokens * hidden * dtype_size(dtype);
    const hipcommResult_t result = hipcommMakePlan(&request, plan);
    if (result != hipcommSuccess)
        return refuse(comm, operation, "dtype %s is none of float16, bfloat16 and float32", dtype_name(dtype));
    if (tokens && plan->kernel < 0) return refuse_row(comm, operation, hidden);
    return hipcommSuccess;
}
