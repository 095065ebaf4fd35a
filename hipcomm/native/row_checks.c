#include "row_checks.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "row_plan.h"
#include "tables.h"

OwnRows own_rows(hipcommComm_t comm, uint64_t tokens) {
    const uint64_t world = comm->args.world, rank = comm->args.rank, least = tokens / world, longer = tokens % world;
    return (OwnRows){rank * least + (rank < longer ? rank : longer), least + (rank < longer)};
}

hipcommResult_t refuse(hipcommComm_t comm, hipcommOperation_t operation, const char* format, ...) {
    char what[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    return set_error(comm, hipcommInvalidArgument, "rank %u: %s: %s", comm->args.rank, operation_row(operation)->name, what);
}

hipcommResult_t refuse_row(hipcommComm_t comm, hipcommOperation_t operation, uint64_t hidden) {
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

static bool are_same(const Rows* a, const Rows* b) {
    return a->address == b->address && a->stride == b->stride && a->tokens == b->tokens;
}

/* Whether they share a byte. Rows of one stride may lie side by side: columns of one array. */
static bool share_memory(const Rows* a, const Rows* b) {
    if (!a->address || !b->address || a->tokens == 0 || b->tokens == 0) return false;
    if (a->address >= b->address + extent_of(b) || b->address >= a->address + extent_of(a)) return false;
    if (a->stride != b->stride) return true;
    const uint64_t between = a->address < b->address ? (uint64_t)(b->address - a->address) % a->stride
                                                     : (a->stride - (uint64_t)(a->address - b->address) % a->stride) % a->stride;
    return between < a->row_bytes || a->stride - between < b->row_bytes;
}

static Rows rows_of(hipcommDataType_t dtype, uint64_t hidden, const char* name, const void* address, size_t stride,
                    uint64_t tokens) {
    const uint64_t size = dtype_size(dtype);
    return (Rows){name, address, (stride ? stride : hidden) * size, hidden * size, tokens};
}

/* Some of them. */
static Rows part_of(const Rows* rows, const OwnRows* own) {
    return (Rows){rows->name, rows->address + own->first * rows->stride, rows->stride, rows->row_bytes, own->count};
}

static hipcommResult_t check_norm_of(hipcommComm_t comm, hipcommOperation_t operation, hipcommDataType_t dtype,
                                     size_t hidden, double eps) {
    if (!is_norm_dtype(dtype))
        return refuse(comm, operation, "dtype %s is none of float16, bfloat16 and float32",
                      dtype_is_valid((int)dtype) ? dtype_name(dtype) : "of this number");
    if (hidden < 1 || hidden > HIPCOMM_MAX_HIDDEN)
        return refuse(comm, operation, "rows of %zu elements: hidden is 1 to %u", hidden, HIPCOMM_MAX_HIDDEN);
    if (!isfinite(eps) || eps < 0 || !isfinite((float)eps))
        return refuse(comm, operation, "eps %g is not a finite float32 of at least 0", eps);
    return hipcommSuccess;
}

static hipcommResult_t check_numbers(hipcommComm_t comm, hipcommOperation_t operation, const hipcommNorm* norm) {
    const hipcommResult_t result = check_norm_of(comm, operation, norm->dtype, norm->hidden, norm->eps);
    if (result != hipcommSuccess) return result;
    if (!isfinite((float)norm->weight_offset))
        return refuse(comm, operation, "weight_offset %g is not a finite float32", norm->weight_offset);
    if (norm->weight && norm->weight_dtype != norm->dtype && norm->weight_dtype != hipcommFloat32)
        return refuse(comm, operation, "weight is neither of x's dtype %s nor float32", dtype_name(norm->dtype));
    if (norm->bias && norm->bias_dtype != norm->dtype && norm->bias_dtype != hipcommFloat32)
        return refuse(comm, operation, "bias is neither of x's dtype %s nor float32", dtype_name(norm->dtype));
    if (norm->bias && !is_layer_norm(operation)) return refuse(comm, operation, "this norm has no bias");
    return hipcommSuccess;
}

static hipcommResult_t check_rows(hipcommComm_t comm, hipcommOperation_t operation, hipcommDataType_t dtype,
                                  const Rows* rows) {
    const uint64_t size = dtype_size(dtype);
    if (!rows->address) return hipcommSuccess;
    if (rows->stride < rows->row_bytes)
        return refuse(comm, operation, "%s: rows of %llu elements lie %llu apart", rows->name,
                      (unsigned long long)(rows->row_bytes / size), (unsigned long long)(rows->stride / size));
    if (rows->tokens > HIPCOMM_MAX_MESSAGE_BYTES / rows->stride)
        return refuse(comm, operation, "%s: %llu rows are not possible", rows->name, (unsigned long long)rows->tokens);
    if (rows->tokens && extent_of(rows) > UINTPTR_MAX - (uintptr_t)rows->address)
        return refuse(comm, operation, "%s: %llu rows from %p on go past the end of memory", rows->name,
                      (unsigned long long)rows->tokens, (const void*)rows->address);
    return hipcommSuccess;
}

/* An output may be x or the residual, row by row, for a row is read before it is written; and nothing else. */
static hipcommResult_t check_output(hipcommComm_t comm, hipcommOperation_t operation, const Rows* output,
                                    const Rows* others, int count, const OwnRows* own) {
    for (int i = 0; i < count; ++i) {
        /* what has this rank's rows only may be those of what has all */
        const bool is_part = output->tokens == own->count && others[i].tokens != own->count;
        const Rows part = part_of(&others[i], own);
        if (share_memory(output, &others[i]) && !are_same(output, is_part ? &part : &others[i]))
            return refuse(comm, operation, "%s and %s overlap without being the same rows", output->name,
                          others[i].name);
    }
    return hipcommSuccess;
}

static bool touches(const Rows* output, const void* parameters, uint64_t bytes) {
    const char* begin = parameters;
    return output->address && begin && output->tokens && begin < output->address + extent_of(output) &&
           output->address < begin + bytes;
}

/* The same of what lies in one piece. */
static bool overlap(const void* a, uint64_t a_bytes, const void* b, uint64_t b_bytes) {
    return a && b && (const char*)a < (const char*)b + b_bytes && (const char*)b < (const char*)a + a_bytes;
}

static bool is_aligned(const void* address, uint64_t alignment) { return (uintptr_t)address % alignment == 0; }

/* Something that lies in one piece, and is read; NULL: there is none. */
typedef struct Parameters {
    const char* name;
    const void* address;
    uint64_t bytes;
} Parameters;

/* What a call has besides its quantised output. */
typedef struct Others {
    const Rows *read, *written;
    int reads, writes;
    Parameters parameters[2];
} Others;

/* What shares memory with `bytes` bytes that are written, or only read: its name, or NULL. */
static const char* sharer(const Others* others, const void* address, uint64_t bytes, bool is_written) {
    for (int i = 0; i < others->writes; ++i)
        if (touches(&others->written[i], address, bytes)) return others->written[i].name;
    for (int i = 0; is_written && i < others->reads; ++i)
        if (touches(&others->read[i], address, bytes)) return others->read[i].name;
    for (int i = 0; is_written && i < 2; ++i)
        if (overlap(address, bytes, others->parameters[i].address, others->parameters[i].bytes))
            return others->parameters[i].name;
    return NULL;
}

/* `q` of `tokens` rows; what is read of it, if it is not written. */
static hipcommResult_t check_quantised(hipcommComm_t comm, hipcommOperation_t operation, const hipcommQuantised* q,
                                       uint64_t tokens, uint64_t hidden, bool is_written, bool is_made,
                                       const Others* others, QuantisedShape* shape) {
    char problem[320];
    if (!describe_quantised(q, tokens, hidden, shape, problem, sizeof problem))
        return refuse(comm, operation, "%s", problem);
    const bool needs_global = is_made && q->format == hipcommFormatNvfp4, has_scales = shape->writes_scales || is_made;
    if (tokens == 0) return hipcommSuccess;
    if (!q->codes || (has_scales && !q->scales)) return refuse(comm, operation, "%s is NULL", q->codes ? "scales" : "codes");
    if (has_scales && !is_aligned(q->scales, shape->alignment))
        return refuse(comm, operation, "scales at %p: they are aligned to %d bytes", q->scales, (int)shape->alignment);
    if (needs_global != (q->global_scale != NULL))
        return refuse(comm, operation, "%s %s a global_scale", hipcommFormatName(q->format),
                      needs_global ? "needs" : "has not");
    if (!is_aligned(q->global_scale, 4))
        return refuse(comm, operation, "global_scale at %p: it is aligned to 4 bytes", q->global_scale);

    const uint64_t code_bytes = (tokens - 1) * shape->codes_stride + shape->code_bytes;
    const char* other = sharer(others, q->codes, code_bytes, is_written);
    if (!other && is_written && overlap(q->codes, code_bytes, q->scales, has_scales ? shape->scale_bytes : 0)) other = "scales";
    if (!other && is_written && overlap(q->codes, code_bytes, q->global_scale, 4)) other = "global_scale";
    if (other) return refuse(comm, operation, "codes and %s overlap", other);
    if (has_scales) other = sharer(others, q->scales, shape->scale_bytes, is_written && shape->writes_scales);
    if (!other && shape->writes_scales && overlap(q->scales, shape->scale_bytes, q->global_scale, 4)) other = "global_scale";
    if (other) return refuse(comm, operation, "scales and %s overlap", other);
    other = sharer(others, q->global_scale, 4, false);
    if (other) return refuse(comm, operation, "global_scale and %s overlap", other);
    return hipcommSuccess;
}

hipcommResult_t check_norm(hipcommComm_t comm, hipcommOperation_t operation, const hipcommNorm* norm,
                           QuantisedShape* quantised) {
    if (!norm) return refuse(comm, operation, "norm is NULL");
    if (norm->size != sizeof *norm)
        return refuse(comm, operation, "size %zu is not that of this library's hipcommNorm, %zu: was the program compiled "
                      "with another hipcomm.h?", norm->size, sizeof *norm);
    hipcommResult_t result = check_numbers(comm, operation, norm);
    if (result != hipcommSuccess) return result;
    if (norm->tokens && !norm->x) return refuse(comm, operation, "x is NULL with %zu tokens", norm->tokens);
    if (norm->tokens && !norm->out && !norm->residual_out && !norm->quantised)
        return refuse(comm, operation, "out, residual_out and quantised are all NULL: there is nothing to write");
    const OwnRows own = own_rows(comm, norm->tokens);
    const uint64_t of_residual = has_own_residual(operation) ? own.count : norm->tokens;
    const uint64_t of_results = has_own_results(operation) ? own.count : norm->tokens;
    const hipcommDataType_t dtype = norm->dtype;
    const uint64_t hidden = norm->hidden;
    const Rows inputs[] = {rows_of(dtype, hidden, "x", norm->x, norm->x_stride, norm->tokens),
                           rows_of(dtype, hidden, "residual", norm->residual, norm->residual_stride, of_residual)};
    const Rows outputs[] = {
        rows_of(dtype, hidden, "out", norm->out, norm->out_stride, of_results),
        rows_of(dtype, hidden, "residual_out", norm->residual_out, norm->residual_out_stride, of_residual)};
    for (int i = 0; i < 2 && result == hipcommSuccess; ++i) {
        result = check_rows(comm, operation, dtype, &inputs[i]);
        if (result == hipcommSuccess) result = check_rows(comm, operation, dtype, &outputs[i]);
    }
    const Others others = {inputs, outputs, 2, 2,
                           {{"weight", norm->weight, hidden * dtype_size(norm->weight_dtype)},
                            {"bias", norm->bias, hidden * dtype_size(norm->bias_dtype)}}};
    for (int i = 0; i < 2 && result == hipcommSuccess; ++i) {
        result = check_output(comm, operation, &outputs[i], inputs, 2, &own);
        for (int k = 0; k < 2 && result == hipcommSuccess; ++k)
            if (touches(&outputs[i], others.parameters[k].address, others.parameters[k].bytes))
                result = refuse(comm, operation, "%s and %s overlap", outputs[i].name, others.parameters[k].name);
    }
    if (result == hipcommSuccess && share_memory(&outputs[0], &outputs[1]))
        return refuse(comm, operation, "out and residual_out overlap");
    if (result != hipcommSuccess || !norm->quantised) return result;
    return check_quantised(comm, operation, norm->quantised, of_results, hidden, true, true, &others, quantised);
}

hipcommResult_t check_tokens(hipcommComm_t comm, const hipcommTokens* tokens, QuantisedShape* shapes) {
    const hipcommOperation_t operation = hipcommOpAllGatherTokens;
    if (!tokens) return refuse(comm, operation, "tokens is NULL");
    if (tokens->size != sizeof *tokens)
        return refuse(comm, operation, "size %zu is not that of this library's hipcommTokens, %zu: was the program "
                      "compiled with another hipcomm.h?", tokens->size, sizeof *tokens);
    const hipcommDataType_t dtype = tokens->dtype;
    if (!is_norm_dtype(dtype))
        return refuse(comm, operation, "dtype %s is none of float16, bfloat16 and float32", dtype_name(dtype));
    if (tokens->hidden < 1 || tokens->hidden > HIPCOMM_MAX_HIDDEN)
        return refuse(comm, operation, "rows of %zu elements: hidden is 1 to %u", tokens->hidden, HIPCOMM_MAX_HIDDEN);
    const OwnRows own = own_rows(comm, tokens->tokens);
    if (tokens->tokens && !tokens->whole && !tokens->quantised)
        return refuse(comm, operation, "whole and quantised are both NULL: there is nothing to write");
    if (own.count && !tokens->part != !tokens->whole)
        return refuse(comm, operation, "of part and whole one is NULL");
    if (!tokens->quantised_part != !tokens->quantised)
        return refuse(comm, operation, "of quantised_part and quantised one is NULL");
    const Rows part = rows_of(dtype, tokens->hidden, "part", tokens->part, tokens->part_stride, own.count);
    const Rows whole = rows_of(dtype, tokens->hidden, "whole", tokens->whole, tokens->whole_stride, tokens->tokens);
    hipcommResult_t result = check_rows(comm, operation, dtype, &part);
    if (result == hipcommSuccess) result = check_rows(comm, operation, dtype, &whole);
    const Rows own_of_whole = part_of(&whole, &own);
    if (result == hipcommSuccess && share_memory(&whole, &part) && !are_same(&own_of_whole, &part))
        return refuse(comm, operation, "whole and part overlap, and part is not this rank's rows of whole");
    if (result != hipcommSuccess || !tokens->quantised) return result;
    const hipcommQuantised *from = tokens->quantised_part, *to = tokens->quantised;
    const Others others = {&part, &whole, 1, 1, {{0}}};
    result = check_quantised(comm, operation, from, own.count, tokens->hidden, false, false, &others, &shapes[0]);
    if (result != hipcommSuccess) return result;
    const uint64_t codes = own.count ? (own.count - 1) * shapes[0].codes_stride + shapes[0].code_bytes : 0;
    const Others besides = {&part, &whole, 1, 1,
                            {{"the part's codes", from->codes, codes},
                             {"the part's scales", from->scales, shapes[0].writes_scales ? shapes[0].scale_bytes : 0}}};
    result = check_quantised(comm, operation, to, tokens->tokens, tokens->hidden, true, false, &besides, &shapes[1]);
    if (result != hipcommSuccess) return result;
    const bool same = from->format == to->format && from->group == to->group &&
                      (!is_fp8_format(to->format) || from->codes_dtype == to->codes_dtype);
    return same ? hipcommSuccess : refuse(comm, operation, "quantised_part and quantised are of different formats");
}

hipcommResult_t check_qk_norm(hipcommComm_t comm, const hipcommQkNorm* norm) {
    enum { kRows = 3, kWeights = 2 };
    const hipcommOperation_t operation = hipcommOpAllReduceQkNorm;
    if (!norm) return refuse(comm, operation, "norm is NULL");
    if (norm->size != sizeof *norm)
        return refuse(comm, operation, "size %zu is not that of this library's hipcommQkNorm, %zu: was the program compiled "
                      "with another hipcomm.h?", norm->size, sizeof *norm);
    const hipcommDataType_t dtype = norm->dtype;
    hipcommResult_t result = check_norm_of(comm, operation, dtype, norm->q_hidden, norm->eps);
    if (result == hipcommSuccess) result = check_norm_of(comm, operation, dtype, norm->k_hidden, norm->eps);
    if (result == hipcommSuccess && norm->v) result = check_norm_of(comm, operation, dtype, norm->v_hidden, norm->eps);
    if (result != hipcommSuccess) return result;
    const uint64_t tokens = norm->tokens;
    if (tokens && (!norm->q || !norm->k)) return refuse(comm, operation, "%s is NULL", norm->q ? "k" : "q");
    if (tokens && !norm->q_out && !norm->k_out)
        return refuse(comm, operation, "q_out and k_out are both NULL: there is nothing to write");
    if (tokens && !norm->v != !norm->v_out) return refuse(comm, operation, "of v and v_out one is NULL");

    const Rows inputs[kRows] = {rows_of(dtype, norm->q_hidden, "q", norm->q, norm->q_stride, tokens),
                                rows_of(dtype, norm->k_hidden, "k", norm->k, norm->k_stride, tokens),
                                rows_of(dtype, norm->v_hidden, "v", norm->v, norm->v_stride, tokens)};
    const Rows outputs[kRows] = {rows_of(dtype, norm->q_hidden, "q_out", norm->q_out, norm->q_out_stride, tokens),
                                 rows_of(dtype, norm->k_hidden, "k_out", norm->k_out, norm->k_out_stride, tokens),
                                 rows_of(dtype, norm->v_hidden, "v_out", norm->v_out, norm->v_out_stride, tokens)};
    const struct {
        const char* name;
        const void* address;
        hipcommDataType_t dtype;
        size_t hidden;
    } weights[kWeights] = {{"q_weight", norm->q_weight, norm->q_weight_dtype, norm->q_hidden},
                           {"k_weight", norm->k_weight, norm->k_weight_dtype, norm->k_hidden}};
    for (int i = 0; i < kRows && result == hipcommSuccess; ++i) {
        result = check_rows(comm, operation, dtype, &inputs[i]);
        if (result == hipcommSuccess) result = check_rows(comm, operation, dtype, &outputs[i]);
    }
    if (result != hipcommSuccess) return result;
    for (int k = 0; k < kWeights; ++k)
        if (weights[k].address && weights[k].dtype != dtype && weights[k].dtype != hipcommFloat32)
            return refuse(comm, operation, "%s is neither of q's dtype %s nor float32", weights[k].name, dtype_name(dtype));
    for (int i = 0; i < kRows; ++i) {
        const Rows* output = &outputs[i];
        for (int k = 0; k < kRows; ++k) {
            if (share_memory(output, &inputs[k]) && !(i == k && are_same(output, &inputs[k])))
                return refuse(comm, operation, "%s and %s overlap without being the same rows", output->name, inputs[k].name);
            if (k > i && share_memory(output, &outputs[k]))
                return refuse(comm, operation, "%s and %s overlap", output->name, outputs[k].name);
        }
        for (int k = 0; k < kWeights; ++k)
            if (touches(output, weights[k].address, weights[k].hidden * dtype_size(weights[k].dtype)))
                return refuse(comm, operation, "%s and %s overlap", output->name, weights[k].name);
    }
    return hipcommSuccess;
}
