#include "names.h"

static const struct {
    const char* name;
    uint64_t size;
} dtypes[hipcommNumDataTypes] = {
    [hipcommInt8] = {"int8", 1},       [hipcommUint8] = {"uint8", 1},     [hipcommInt32] = {"int32", 4},
    [hipcommUint32] = {"uint32", 4},   [hipcommInt64] = {"int64", 8},     [hipcommUint64] = {"uint64", 8},
    [hipcommFloat16] = {"float16", 2}, [hipcommFloat32] = {"float32", 4}, [hipcommFloat64] = {"float64", 8},
    [hipcommBfloat16] = {"bfloat16", 2},
};

uint64_t dtype_size(hipcommDataType_t dtype) { return dtypes[dtype].size; }
bool dtype_is_valid(int dtype) { return dtype >= 0 && dtype < hipcommNumDataTypes; }
bool redop_is_valid(int op) { return op >= 0 && op < hipcommNumRedOps; }
const char* dtype_name(hipcommDataType_t dtype) { return dtypes[dtype].name; }

const char* redop_name(hipcommRedOp_t op) {
    static const char* const names[hipcommNumRedOps] = {"sum", "prod", "max", "min", "avg"};
    return names[op];
}

const char* operation_name(uint32_t operation) {
    static const char* const names[hipcommNumOperations] = {"all_reduce", "all_gather", "broadcast", "barrier"};
    return operation < hipcommNumOperations ? names[operation] : "unknown operation";
}

const char* algorithm_name(uint32_t algorithm) {
    static const char* const names[hipcommNumAlgorithms] = {"auto", "one_shot", "two_shot", "pipelined", "direct",
                                                            "copy"};
    return algorithm < hipcommNumAlgorithms ? names[algorithm] : "unknown algorithm";
}

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
