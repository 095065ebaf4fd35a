/* Look-ups in the tables of hipcomm/abi. Numbers must be valid, where nothing else is said. */
#ifndef HIPCOMM_NATIVE_TABLES_H
#define HIPCOMM_NATIVE_TABLES_H

#include <stdbool.h>

#include "../abi/kernel_args.h"
#include "hipcomm_internal.h"

/* A row of operations.def, which says what the columns mean. */
typedef struct Operation {
    const char* name;
    enum BytesOf { kBytesNone, kBytesWhole, kBytesPart, kBytesPair, kBytesLargest, kBytesUnknown, kBytesMessage } bytes;
    enum PartsOf { kPartsNone, kPartsOne, kPartsEach } sent, received;
    enum InPlace { kInPlaceNever, kInPlaceSame, kInPlaceInReceived, kInPlaceInSent } in_place;
    enum Root { kRootNone, kRootSends, kRootReceives } root;
    bool reduces, reads, writes;
    enum Family {
        kFamilyNone,
        kFamilyAllReduce,
        kFamilyAllGather,
        kFamilyBroadcast,
        kFamilyReduceScatter,
        kFamilyReduce,
        kFamilyExchange,
        kFamilySend,
        kFamilyNorm,
        kFamilies
    } family;
    enum Compared { kCompareNothing, kCompareCount, kComparePairs, kCompareCountAndPairs, kCompareCountAndRows } compared;
} Operation;
extern const Operation operations[hipcommNumOperations];

/* Also for numbers that a kernel has recorded: "unknown operation" is the name of others. */
const Operation* operation_row(uint32_t number);

uint64_t dtype_size(hipcommDataType_t dtype); /* bytes of an element; 0 of an invalid dtype */
bool dtype_is_valid(int dtype);
bool dtype_is_float8(hipcommDataType_t dtype);
hipcommFloat8 float8_format(hipcommDataType_t dtype); /* all zero for other dtypes */
bool redop_is_valid(int op);

/* "unknown ..." for other numbers */
const char* dtype_name(uint32_t dtype);
const char* redop_name(uint32_t op);
const char* algorithm_name(uint32_t algorithm);

#endif
