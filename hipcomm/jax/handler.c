/* The XLA FFI handlers behind hipcomm.jax: a custom call of a compiled program becomes a call of the C library.
 *
 * The program knows its communicator by number (hipcommCommOfNumber), as the address may be stale when it runs. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "hipcomm_internal.h"
#include "xla/ffi/api/c_api.h"

typedef const XLA_FFI_CallFrame Frame;

static XLA_FFI_Error* fail(Frame* frame, XLA_FFI_Error_Code code, const char* message) {
    XLA_FFI_Error_Create_Args args = {
        .struct_size = XLA_FFI_Error_Create_Args_STRUCT_SIZE, .message = message, .errc = code};
    return frame->api->XLA_FFI_Error_Create(&args);
}

static XLA_FFI_Error* fail_with(Frame* frame, hipcommResult_t result, const char* message) {
    const bool is_argument = result == hipcommInvalidArgument;
    return fail(frame, is_argument ? XLA_FFI_Error_Code_INVALID_ARGUMENT : XLA_FFI_Error_Code_ABORTED, message);
}

/* ---- what the program passes ------------------------------------------------------------------------------------ */

/* A scalar of 8 bytes; false: there is none of this name. */
static bool attribute(Frame* frame, const char* name, void* value) {
    for (int64_t i = 0; i < frame->attrs.size; ++i) {
        const XLA_FFI_ByteSpan* span = frame->attrs.names[i];
        if (span->len != strlen(name) || memcmp(span->ptr, name, span->len) != 0) continue;
        if (frame->attrs.types[i] != XLA_FFI_AttrType_SCALAR) return false;
        memcpy(value, ((const XLA_FFI_Scalar*)frame->attrs.attrs[i])->value, 8);
        return true;
    }
    return false;
}

static int dtype_of(const XLA_FFI_Buffer* buffer) {
    switch (buffer->dtype) {
        case XLA_FFI_DataType_S8: return hipcommInt8;
        case XLA_FFI_DataType_U8: return hipcommUint8;
        case XLA_FFI_DataType_S32: return hipcommInt32;
        case XLA_FFI_DataType_U32: return hipcommUint32;
        case XLA_FFI_DataType_S64: return hipcommInt64;
        case XLA_FFI_DataType_U64: return hipcommUint64;
        case XLA_FFI_DataType_F16: return hipcommFloat16;
        case XLA_FFI_DataType_F32: return hipcommFloat32;
        case XLA_FFI_DataType_F64: return hipcommFloat64;
        case XLA_FFI_DataType_BF16: return hipcommBfloat16;
        case XLA_FFI_DataType_F8E4M3FN: return hipcommFloat8E4M3FN;
        case XLA_FFI_DataType_F8E5M2: return hipcommFloat8E5M2;
        case XLA_FFI_DataType_F8E4M3: return hipcommFloat8E4M3;
        case XLA_FFI_DataType_F8E3M4: return hipcommFloat8E3M4;
        case XLA_FFI_DataType_F8E4M3FNUZ: return hipcommFloat8E4M3FNUZ;
        case XLA_FFI_DataType_F8E4M3B11FNUZ: return hipcommFloat8E4M3B11FNUZ;
        case XLA_FFI_DataType_F8E5M2FNUZ: return hipcommFloat8E5M2FNUZ;
        case XLA_FFI_DataType_F8E8M0FNU: return hipcommFloat8E8M0FNU;
        default: return -1;
    }
}

static size_t count_of(const XLA_FFI_Buffer* buffer) {
    size_t count = 1;
    for (int64_t i = 0; i < buffer->rank; ++i) count *= (size_t)buffer->dims[i];
    return count;
}

/* The buffers of a call, without the tokens that keep calls in order. */
enum { kMostBuffers = 4 };
typedef struct Buffers {
    const XLA_FFI_Buffer* in[kMostBuffers];
    const XLA_FFI_Buffer* out[kMostBuffers];
    int inputs, outputs;
} Buffers;

static Buffers buffers_of(Frame* frame) {
    Buffers found = {.inputs = 0};
    for (int64_t i = 0; i < frame->args.size; ++i) {
        const XLA_FFI_Buffer* buffer = frame->args.args[i];
        if (buffer->dtype != XLA_FFI_DataType_TOKEN && found.inputs < kMostBuffers) found.in[found.inputs++] = buffer;
    }
    for (int64_t i = 0; i < frame->rets.size; ++i) {
        const XLA_FFI_Buffer* buffer = frame->rets.rets[i];
        if (buffer->dtype != XLA_FFI_DataType_TOKEN && found.outputs < kMostBuffers) found.out[found.outputs++] = buffer;
    }
    return found;
}

/* ---- the calls ---------------------------------------------------------------------------------------------------- */

/* Inputs: x, and those of residual, weight and bias that `has` names, a bit each. */
static hipcommResult_t call_norm(Frame* frame, const Buffers* buffers, int64_t operation, hipcommComm_t comm,
                                 void* stream) {
    const XLA_FFI_Buffer* x = buffers->in[0];
    int64_t has = 0;
    hipcommNorm norm = {.size = sizeof norm, .dtype = (hipcommDataType_t)dtype_of(x), .x = x->data};
    attribute(frame, "has", &has);
    attribute(frame, "eps", &norm.eps);
    attribute(frame, "weight_offset", &norm.weight_offset);
    norm.hidden = (size_t)x->dims[x->rank - 1];
    norm.tokens = norm.hidden ? count_of(x) / norm.hidden : 0;
    int next = 1;
    if (has & 1) norm.residual = buffers->in[next++]->data;
    if (has & 2) {
        norm.weight_dtype = (hipcommDataType_t)dtype_of(buffers->in[next]);
        norm.weight = buffers->in[next++]->data;
    }
    if (has & 4) {
        norm.bias_dtype = (hipcommDataType_t)dtype_of(buffers->in[next]);
        norm.bias = buffers->in[next++]->data;
    }
    norm.out = buffers->out[0]->data;
    norm.residual_out = buffers->out[1]->data;
    switch (operation) {
        case hipcommOpAddRmsNorm: return hipcommAddRmsNorm(&norm, comm, stream);
        case hipcommOpAddLayerNorm: return hipcommAddLayerNorm(&norm, comm, stream);
        case hipcommOpAllReduceRmsNorm: return hipcommAllReduceRmsNorm(&norm, comm, stream);
        default: return hipcommAllReduceLayerNorm(&norm, comm, stream);
    }
}

static hipcommResult_t call_collective(Frame* frame, const Buffers* buffers, int64_t operation, hipcommComm_t comm,
                                       void* stream) {
    int64_t op = hipcommSum, rows = 1, world = 1;
    attribute(frame, "op", &op);
    attribute(frame, "rows", &rows);
    attribute(frame, "world", &world);
    const XLA_FFI_Buffer *in = buffers->in[0], *out = buffers->out[0];
    const hipcommDataType_t dtype = (hipcommDataType_t)dtype_of(in);
    const size_t sent = count_of(in), received = count_of(out);
    switch (operation) {
        case hipcommOpAllReduce:
            return hipcommAllReduce(in->data, out->data, sent, dtype, (hipcommRedOp_t)op, comm, stream);
        case hipcommOpAllGather:
            return hipcommAllGatherRows(in->data, out->data, (size_t)rows, rows ? sent / (size_t)rows : 0, dtype, comm, stream);
        case hipcommOpReduceScatter:
            return hipcommReduceScatterRows(in->data, out->data, (size_t)rows, rows ? received / (size_t)rows : 0, dtype,
                                            (hipcommRedOp_t)op, comm, stream);
        case hipcommOpAllToAll:
            return hipcommAllToAll(in->data, out->data, sent / (size_t)world, dtype, comm, stream);
        default: return call_norm(frame, buffers, operation, comm, stream);
    }
}

/* XLA asks a handler first which API it was compiled for. */
static bool answers_question(Frame* frame) {
    XLA_FFI_Extension_Base* extension = frame->extension_start;
    if (!extension || extension->type != XLA_FFI_Extension_Metadata) return false;
    XLA_FFI_Metadata* metadata = ((XLA_FFI_Metadata_Extension*)extension)->metadata;
    metadata->api_version.major_version = XLA_FFI_API_MAJOR;
    metadata->api_version.minor_version = XLA_FFI_API_MINOR;
    return true;
}

static XLA_FFI_Error* execute(Frame* frame, void* stream) {
    int64_t operation = 0, number = 0;
    const Buffers buffers = buffers_of(frame);
    if (!attribute(frame, "operation", &operation) || !attribute(frame, "comm", &number) || buffers.inputs < 1 ||
        buffers.outputs < 1 || dtype_of(buffers.in[0]) < 0)
        return fail(frame, XLA_FFI_Error_Code_INVALID_ARGUMENT, "hipcomm.jax: this call was made by another version");
    const hipcommComm_t comm = hipcommCommOfNumber((uint64_t)number);
    if (!comm)
        return fail(frame, XLA_FFI_Error_Code_FAILED_PRECONDITION,
                    "hipcomm.jax: the communicator that this program was traced with is closed");
    const hipcommResult_t result = call_collective(frame, &buffers, operation, comm, stream);
    return result == hipcommSuccess ? NULL : fail_with(frame, result, hipcommGetLastError(comm));
}

/* On the CPU: the call has happened when this returns. */
__attribute__((visibility("default"))) XLA_FFI_Error* hipcommJaxOnHost(XLA_FFI_CallFrame* frame) {
    if (answers_question(frame)) return NULL;
    return execute(frame, NULL);
}

/* On GPUs: the call is enqueued on XLA's stream. */
__attribute__((visibility("default"))) XLA_FFI_Error* hipcommJaxOnDevice(XLA_FFI_CallFrame* frame) {
    if (answers_question(frame)) return NULL;
    XLA_FFI_Stream_Get_Args args = {.struct_size = XLA_FFI_Stream_Get_Args_STRUCT_SIZE, .ctx = frame->ctx};
    XLA_FFI_Error* error = frame->api->XLA_FFI_Stream_Get(&args);
    return error ? error : execute(frame, args.stream);
}
