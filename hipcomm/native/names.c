#include "names.h"

static const struct {
    const char* name;
    uint64_t size;
    hipcommFloat8 float8;
} dtypes[hipcommNumDataTypes] = {
    [hipcommInt8] = {"int8", 1},       [hipcommUint8] = {"uint8", 1},     [hipcommInt32] = {"int32", 4},
    [hipcommUint32] = {"uint32", 4},   [hipcommInt64] = {"int64", 8},     [hipcommUint64] = {"uint64", 8},
    [hipcommFloat16] = {"float16", 2}, [hipcommFloat32] = {"float32", 4}, [hipcommFloat64] = {"float64", 8},
    [hipcommBfloat16] = {"bfloat16", 2},
    /* mantissa bits, bias, specials */
    [hipcommFloat8E4M3FN] = {"float8_e4m3fn", 1, {3, 7, HIPCOMM_FLOAT8_FINITE, 0}},
    [hipcommFloat8E5M2] = {"float8_e5m2", 1, {2, 15, HIPCOMM_FLOAT8_IEEE, 0}},
    [hipcommFloat8E4M3] = {"float8_e4m3", 1, {3, 7, HIPCOMM_FLOAT8_IEEE, 0}},
    [hipcommFloat8E3M4] = {"float8_e3m4", 1, {4, 3, HIPCOMM_FLOAT8_IEEE, 0}},
    [hipcommFloat8E4M3FNUZ] = {"float8_e4m3fnuz", 1, {3, 8, HIPCOMM_FLOAT8_UNSIGNED_ZERO, 0}},
    [hipcommFloat8E4M3B11FNUZ] = {"float8_e4m3b11fnuz", 1, {3, 11, HIPCOMM_FLOAT8_UNSIGNED_ZERO, 0}},
    [hipcommFloat8E5M2FNUZ] = {"float8_e5m2fnuz", 1, {2, 16, HIPCOMM_FLOAT8_UNSIGNED_ZERO, 0}},
    [hipcommFloat8E8M0FNU] = {"float8_e8m0fnu", 1, {0, 127, HIPCOMM_FLOAT8_EXPONENT_ONLY, 0}},
};

bool dtype_is_float8(hipcommDataType_t dtype) { return dtype >= hipcommFloat8E4M3FN; }
hipcommFloat8 float8_format(hipcommDataType_t dtype) { return dtypes[dtype].float8; }
uint64_t dtype_size(hipcommDataType_t dtype) { return dtypes[dtype].size; }
bool dtype_is_valid(int dtype) { return dtype >= 0 && dtype < hipcommNumDataTypes; }
bool redop_is_valid(int op) { return op >= 0 && op < hipcommNumRedOps; }
const char* dtype_name(hipcommDataType_t dtype) { return dtypes[dtype].name; }

const char* redop_name(hipcommRedOp_t op) {
    static const char* const names[hipcommNumRedOps] = {"sum", "prod", "max", "min", "avg"};
    return names[op];
}

const char* operation_name(uint32_t operation) {
    static const char* const names[hipcommNumOperations] = {
        "all_reduce", "all_gather",   "broadcast",    "barrier",         "reduce_scatter", "reduce",
        "all_to_all", "all_to_all_v", "all_gather_v", "all_gather_rows", "gather",         "scatter",
        "send",       "recv"};
    return operation < hipcommNumOperations ? names[operation] : "unknown operation";
}

const char* algorithm_name(uint32_t algorithm) {
    static const char* const names[hipcommNumAlgorithms] = {"auto", "one_shot", "two_shot", "pipelined", "direct",
                                                            "copy", "staged"};
    return algorithm < hipcommNumAlgorithms ? names[algorithm] : "unknown algorithm";
}

const char* hipcommAlgorithmName(hipcommAlgorithm_t algorithm) { return algorithm_name((uint32_t)algorithm); }

const char* hipcommGetResultName(hipcommResult_t result) {
    switch (result) {
        case hipcommSuccess: return "hipcommSuccess";
        case hipcommInvalidArgument: return "hipcommInvalidArgument";
        case hipcommPlatformError: return "hipcommPlatformError";
        case hipcommPeerTimeout: return "hipcommPeerTimeout";
        case hipcommPeerDied: return "hipcommPeerDied";
        case hipcommCallMismatch: return "hipcommCallMismatch";
        case hipcommOutOfMemory: return "hipcommOutOfMemory";
    }
    return "unknown result";
}
