/* Norms over rows, fused with the all-reduce or alone; and the gather of rows that ranks have normed. */
#include <stdio.h>
#include <string.h>

#include "../abi/norm_args.h"
#include "call_check.h"
#include "call_log.h"
#include "current_device.h"
#include "row_calls.h"
#include "row_checks.h"
#include "row_plan.h"

/* ---- the calls -------------------------------------------------------------------------------------------*/

static uint64_t round_up(uint64_t bytes) { return (bytes + HIPCOMM_PACK_BYTES - 1) / HIPCOMM_PACK_BYTES * HIPCOMM_PACK_BYTES; }

static bool gathers_residual(hipcommComm_t comm, hipcommOperation_t operation, const hipcommNorm* norm) {
    return owners_norm(operation, comm->row) && !has_own_residual(operation) && norm->residual_out;
}

/* What an owner sends of a finished row to each other rank: whole packs (kernels/fused/gather.h). */
static uint64_t gathered_bytes(hipcommComm_t comm, hipcommOperation_t operation, const hipcommNorm* norm,
                               const QuantisedShape* quantised) {
    if (operation != hipcommOpAllGatherTokens && (!owners_norm(operation, comm->row) || has_own_results(operation))) return 0;
    const int rows = (norm->out != NULL) + gathers_residual(comm, operation, norm);
    return (uint64_t)rows * round_up(norm->hidden * dtype_size(norm->dtype)) +
           (quantised ? round_up(quantised->code_bytes) + round_up(quantised->row_scale_bytes) : 0);
}

/* Whether everything may be moved in packs. */
static bool is_in_whole_packs(const hipcommNorm* norm) {
    const uint64_t addresses = (uint64_t)(uintptr_t)norm->x | (uintptr_t)norm->residual | (uintptr_t)norm->weight |
                               (uintptr_t)norm->bias | (uintptr_t)norm->out | (uintptr_t)norm->residual_out;
    const uint64_t strides = norm->hidden | norm->x_stride | norm->residual_stride | norm->out_stride | norm->residual_out_stride;
    return (addresses | strides * dtype_size(norm->dtype)) % HIPCOMM_PACK_BYTES == 0;
}

static hipcommPlan plan_of(hipcommComm_t comm, const Call* call, const hipcommNorm* norm, uint64_t gathered) {
    hipcommPlanRequest request = comm->request;
    request.operation = call->operation;
    request.dtype = call->dtype;
    request.op = hipcommSum;
    request.bytes = call->count * dtype_size(call->dtype);
    request.hidden = (uint32_t)norm->hidden;
    request.format = norm->quantised ? norm->quantised->format : hipcommFormatNone;
    request.whole_packs = is_in_whole_packs(norm);
    request.gathered_bytes = gathered;
    request.registered = 0;
    hipcommPlan plan;
    make_plan(&request, comm->row, &plan);
    return plan;
}

/* An address that counts from an earlier row than the array's first; NULL stays NULL. */
static void* rows_before(const void* address, uint64_t bytes) {
    return address ? (void*)((uintptr_t)address - bytes) : NULL;
}

/* What kernels are told of a quantised array whose row 0 is row `first` of the call, and which has `rows` rows. */
static hipcommQuantisedArgs quantised_rows(const hipcommQuantised* quantised, const QuantisedShape* shape, uint64_t first,
                                           uint64_t rows) {
    hipcommQuantisedArgs args = quantised_args(quantised, shape);
    args.codes = rows_before(args.codes, first * args.codes_stride);
    args.first = first;
    args.rows = rows;
    return args;
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
        .is_layer = is_layer_norm(call->operation),
    };
    const OwnRows own = own_rows(comm, norm->tokens);
    if (has_own_residual(call->operation)) { /* kernels count all rows from the call's first */
        args.residual = rows_before(args.residual, own.first * args.residual_stride);
        args.residual_out = rows_before(args.residual_out, own.first * args.residual_out_stride);
    }
    if (has_own_results(call->operation)) args.out = rows_before(args.out, own.first * args.out_stride);
    fill_args(&args.common, call, plan);
    args.common.send = norm->x;
    args.common.bytes = call->count * size;
    return args;
}

/* Launch after launch until all rows are done. */
static hipcommResult_t launch_rows(hipcommComm_t comm, void* args, const LaunchRows* of_launch, const hipcommPlan* plan,
                                   hipStream_t stream) {
    const uint64_t world = comm->args.world, tokens = of_launch->tokens;
    const uint64_t rows = rows_have_owners(plan->algorithm) ? (tokens + world - 1) / world : tokens;
    for (*of_launch->first = 0; *of_launch->first < rows; *of_launch->first += *of_launch->count) {
        const uint64_t left = rows - *of_launch->first;
        *of_launch->count = left < plan->rows_per_launch ? left : plan->rows_per_launch;
        const hipcommResult_t result = launch(comm, plan, args, stream);
        if (result != hipcommSuccess) return result;
    }
    return hipcommSuccess;
}

/* The ranks compare the length of rows too: as what each pair sends and receives. */
static hipcommResult_t check_ranks(hipcommComm_t comm, const Call* call, uint64_t hidden, hipStream_t stream,
                                   bool capturing) {
    hipcommSegment segments[HIPCOMM_MAX_RANKS];
    for (uint32_t rank = 0; rank < comm->args.world; ++rank)
        segments[rank] = (hipcommSegment){.send_bytes = hidden, .recv_bytes = hidden};
    return check_peers(comm, call, call->count * dtype_size(call->dtype), segments, stream, capturing);
}

/* What all ranks must agree on, besides what Call says. */
static uint64_t agreed(const hipcommNorm* norm, uint64_t gathered) {
    const float eps = (float)norm->eps, offset = (float)norm->weight_offset;
    uint32_t eps_bits, offset_bits;
    memcpy(&eps_bits, &eps, sizeof eps_bits);
    memcpy(&offset_bits, &offset, sizeof offset_bits);
    const uint64_t parts = (norm->residual != NULL) | (norm->weight != NULL) << 1 | (norm->bias != NULL) << 2 |
                           (norm->weight ? norm->weight_dtype : 0) << 8 | (norm->bias ? norm->bias_dtype : 0) << 16;
    uint64_t hash = add_to_hash(0, 3, norm->hidden);
    hash = add_to_hash(hash, 4, eps_bits);
    hash = add_to_hash(hash, 5, offset_bits);
    hash = add_to_hash(hash, 7, gathered);
    return add_to_hash(hash, 6, parts);
}

hipcommResult_t run_rows(hipcommComm_t comm, const Call* call, const hipcommPlan* plan, void* args,
                         const LaunchRows* rows, uint64_t hidden, hipStream_t stream) {
    if (call->count && plan->kernel < 0) return refuse_row(comm, call->operation, hidden);
    if (comm->log) log_call(comm, call, call->count * dtype_size(call->dtype), plan);
    if (plan->algorithm == hipcommAlgorithmLocal) return launch_rows(comm, args, rows, plan, stream); /* no peers, no order */
    const bool compares = comm->check && operations[call->operation].compared != kCompareNothing;
    if (plan->kernel < 0 && !compares) return hipcommSuccess;

    bool capturing;
    hipcommResult_t result = enter_stream(comm, stream, &capturing);
    if (result == hipcommSuccess && compares)
        result = check_ranks(comm, call, hidden, stream, capturing);
    if (result == hipcommSuccess && plan->kernel >= 0) result = launch_rows(comm, args, rows, plan, stream);
    if (result != hipcommSuccess) return result;
    result = leave_stream(comm, stream, capturing);
    /* where launches are synchronous (the CPU platform), a failure belongs to this very call */
    return result == hipcommSuccess ? check_health(comm) : result;
}

static hipcommResult_t run_norm_on_device(hipcommComm_t comm, hipcommOperation_t operation, const hipcommNorm* norm,
                                          hipStream_t stream) {
    if (norm && norm->sharded) operation = sharded_operation(operation);
    QuantisedShape quantised;
    hipcommResult_t result = check_norm(comm, operation, norm, &quantised);
    if (result == hipcommSuccess) result = check_health(comm);
    if (result != hipcommSuccess) return result;
    const uint64_t gathered = gathered_bytes(comm, operation, norm, norm->quantised ? &quantised : NULL);
    const Call call = {.operation = operation, .send = norm->x, .recv = norm->out, .count = norm->tokens * norm->hidden,
                       .rows = 1, .dtype = norm->dtype, .details = agreed(norm, gathered)};
    const hipcommPlan plan = plan_of(comm, &call, norm, gathered);
    hipcommNormArgs args = args_of(comm, norm, &call, &plan);
    args.gathered_bytes = gathered;
    args.gathers_residual = gathers_residual(comm, operation, norm);
    const OwnRows all = {0, norm->tokens}, rows = has_own_results(operation) ? own_rows(comm, norm->tokens) : all;
    if (norm->quantised) args.quantised = quantised_rows(norm->quantised, &quantised, rows.first, rows.count);
    const LaunchRows of_launch = {&args.first, &args.count, norm->tokens};
    return run_rows(comm, &call, &plan, &args, &of_launch, norm->hidden, stream);
}

static hipcommResult_t run_norm(hipcommComm_t comm, hipcommOperation_t operation, const hipcommNorm* norm,
                                hipcommStream_t stream) {
    if (!is_live(comm)) return no_comm();
    int before;
    const hipcommResult_t result = enter_call(comm, stream, &before);
    if (result != hipcommSuccess) return result;
    return leave_call(comm, stream, before, run_norm_on_device(comm, operation, norm, stream));
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

hipcommResult_t hipcommReduceScatterRmsNorm(const hipcommNorm* norm, hipcommComm_t comm, hipcommStream_t stream) {
    return run_norm(comm, hipcommOpReduceScatterRmsNorm, norm, stream);
}
hipcommResult_t hipcommReduceScatterLayerNorm(const hipcommNorm* norm, hipcommComm_t comm, hipcommStream_t stream) {
    return run_norm(comm, hipcommOpReduceScatterLayerNorm, norm, stream);
}

static hipcommResult_t gather_on_device(hipcommComm_t comm, const hipcommTokens* tokens, hipStream_t stream) {
    QuantisedShape shapes[2];
    hipcommResult_t result = check_tokens(comm, tokens, shapes);
    if (result == hipcommSuccess) result = check_health(comm);
    if (result != hipcommSuccess) return result;
    const uint64_t size = dtype_size(tokens->dtype), row = tokens->hidden * size;
    const hipcommOperation_t operation = hipcommOpAllGatherTokens;
    const hipcommNorm norm = {.hidden = tokens->hidden, .dtype = tokens->dtype, .out = tokens->whole,
                              .quantised = tokens->quantised};
    const uint64_t gathered = gathered_bytes(comm, operation, &norm, tokens->quantised ? &shapes[1] : NULL);
    const Call call = {.operation = operation, .send = tokens->part, .recv = tokens->whole,
                       .count = tokens->tokens * tokens->hidden, .rows = 1, .dtype = tokens->dtype,
                       .details = agreed(&norm, gathered)};
    const hipcommPlan plan = plan_of(comm, &call, &norm, gathered);
    const OwnRows own = own_rows(comm, tokens->tokens);
    hipcommGatherArgs args = {
        .common = comm->args,
        .part_stride = tokens->part_stride ? tokens->part_stride * size : row,
        .whole = tokens->whole,
        .whole_stride = tokens->whole_stride ? tokens->whole_stride * size : row,
        .row_bytes = row,
        .tokens = tokens->tokens,
        .gathered_bytes = gathered,
        .hidden = tokens->hidden,
    };
    args.part = rows_before(tokens->part, own.first * args.part_stride);
    if (tokens->quantised) {
        args.quantised_part = quantised_rows(tokens->quantised_part, &shapes[0], own.first, own.count);
        args.quantised = quantised_rows(tokens->quantised, &shapes[1], 0, tokens->tokens);
    }
    fill_args(&args.common, &call, &plan);
    const LaunchRows of_launch = {&args.first, &args.count, tokens->tokens};
    return run_rows(comm, &call, &plan, &args, &of_launch, tokens->hidden, stream);
}

hipcommResult_t hipcommAllGatherTokens(const hipcommTokens* tokens, hipcommComm_t comm, hipcommStream_t stream) {
    if (!is_live(comm)) return no_comm();
    int before;
    const hipcommResult_t result = enter_call(comm, stream, &before);
    if (result != hipcommSuccess) return result;
    return leave_call(comm, stream, before, gather_on_device(comm, tokens, stream));
}

hipcommResult_t hipcommOwnRows(hipcommComm_t comm, size_t tokens, size_t* first, size_t* count) {
    if (!is_live(comm)) return no_comm();
    if (!first || !count) return set_error(comm, hipcommInvalidArgument, "rank %u: first or count is NULL", comm->args.rank);
    const OwnRows own = own_rows(comm, tokens);
    *first = own.first;
    *count = own.count;
    return hipcommSuccess;
}

hipcommResult_t hipcommCommPlanNorm(hipcommComm_t comm, hipcommOperation_t operation, const hipcommNorm* norm,
                                    hipcommPlan* plan) {
    if (!is_live(comm)) return no_comm();
    if (norm && norm->sharded) operation = sharded_operation(operation);
    if (!is_norm(operation) || !plan || !norm || !dtype_is_valid((int)norm->dtype) || norm->hidden < 1 ||
        norm->hidden > most_hidden(operation) ||
        norm->tokens > HIPCOMM_MAX_MESSAGE_BYTES / (norm->hidden * dtype_size(norm->dtype)))
        return set_error(comm, hipcommInvalidArgument, "rank %u: no such norm to plan", comm->args.rank);
    QuantisedShape quantised;
    char problem[320];
    if (norm->quantised &&
        !describe_quantised(norm->quantised, norm->tokens, norm->hidden, &quantised, problem, sizeof problem))
        return refuse(comm, operation, "%s", problem);
    hipcommPlanRequest request = comm->request;
    request.operation = operation;
    request.dtype = norm->dtype;
    request.op = hipcommSum;
    request.registered = 0;
    request.hidden = (uint32_t)norm->hidden;
    request.format = norm->quantised ? norm->quantised->format : hipcommFormatNone;
    request.whole_packs = is_in_whole_packs(norm);
    request.gathered_bytes = gathered_bytes(comm, operation, norm, norm->quantised ? &quantised : NULL);
    request.bytes = norm->tokens * norm->hidden * dtype_size(norm->dtype);
    const hipcommResult_t result = hipcommMakePlan(&request, plan);
    if (result != hipcommSuccess)
        return refuse(comm, operation, "dtype %s is none of float16, bfloat16 and float32", dtype_name(norm->dtype));
    if (norm->tokens && plan->kernel < 0) return refuse_row(comm, operation, norm->hidden);
    return hipcommSuccess;
}
