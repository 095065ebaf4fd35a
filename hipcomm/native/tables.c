#include "tables.h"

#include "../abi/algorithms.def"
#include "../abi/dtypes.def"
#include "../abi/operations.def"
#include "../abi/reductions.def"

static const struct {
    const char* name;
    uint64_t size;
    hipcommFloat8 float8;
} dtypes[] = {
#define DTYPE(Name, name, number, bytes, ...) [number] = {#name, bytes, {0}},
#define FLOAT8(Name, name, number, mantissa_bits, bias, specials, ...) \
    [number] = {#name, 1, {mantissa_bits, bias, HIPCOMM_FLOAT8_##specials, 0}},
    HIPCOMM_DTYPES(DTYPE) HIPCOMM_FLOAT8_DTYPES(FLOAT8)
};

#define NAME(Name, name, number, ...) [number] = #name,
static const char* const redops[] = {HIPCOMM_REDUCTIONS(NAME)};
static const char* const algorithms[] = {HIPCOMM_ALGORITHMS(NAME)};

const Operation operations[hipcommNumOperations] = {
#define OPERATION(Name, name, number, bytes, sent, received, in_place, root, reduces, reads, writes, family, compared, ...) \
    [number] = {#name, kBytes##bytes, kParts##sent, kParts##received, kInPlace##in_place, kRoot##root, reduces,             \
                reads, writes, kFamily##family, kCompare##compared},
    HIPCOMM_OPERATIONS(OPERATION)
};

/* The same in words. */
static const hipcommOperationInfo infos[hipcommNumOperations] = {
#define INFO(Name, name, number, bytes, sent, received, in_place, root, reduces, reads, writes, family, compared, ...) \
    [number] = {#name, #bytes, #sent, #received, #in_place, #root, reduces, reads, writes, #family, #compared},
    HIPCOMM_OPERATIONS(INFO)
};

enum { kDtypes = sizeof dtypes / sizeof *dtypes, kRedops = sizeof redops / sizeof *redops };
enum { kAlgorithms = sizeof algorithms / sizeof *algorithms };

bool dtype_is_valid(int dtype) { return dtype >= 0 && dtype < kDtypes; }
bool dtype_is_float8(hipcommDataType_t dtype) { return dtypes[dtype].float8.bias != 0; }
hipcommFloat8 float8_format(hipcommDataType_t dtype) { return dtypes[dtype].float8; }
uint64_t dtype_size(hipcommDataType_t dtype) { return dtype_is_valid((int)dtype) ? dtypes[dtype].size : 0; }
bool redop_is_valid(int op) { return op >= 0 && op < kRedops; }

const char* dtype_name(uint32_t dtype) { return dtype < kDtypes ? dtypes[dtype].name : "unknown dtype"; }
const char* redop_name(uint32_t op) { return op < kRedops ? redops[op] : "unknown reduction"; }
const Operation* operation_row(uint32_t number) {
    static const Operation unknown = {.name = "unknown operation"};
    return number < hipcommNumOperations ? &operations[number] : &unknown;
}
const char* algorithm_name(uint32_t algorithm) {
    return algorithm < kAlgorithms ? algorithms[algorithm] : "unknown algorithm";
}

const char* hipcommDataTypeName(hipcommDataType_t dtype) { return dtype_name((uint32_t)dtype); }
const char* hipcommRedOpName(hipcommRedOp_t op) { return redop_name((uint32_t)op); }
const char* hipcommOperationName(hipcommOperation_t operation) { return operation_row((uint32_t)operation)->name; }
const char* hipcommAlgorithmName(hipcommAlgorithm_t algorithm) { return algorithm_name((uint32_t)algorithm); }

hipcommResult_t hipcommGetOperationInfo(hipcommOperation_t operation, hipcommOperationInfo* info) {
    if ((int)operation < 0 || operation >= hipcommNumOperations || !info) return hipcommInvalidArgument;
    *info = infos[operation];
    return hipcommSuccess;
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
