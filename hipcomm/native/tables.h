/* Look-ups in the tables of hipcomm/abi. Numbers must be valid, where nothing else is said. */
#ifndef HIPCOMM_NATIVE_TABLES_H
#define HIPCOMM_NATIVE_TABLES_H

#include <stdbool.h>

#include "../../kernels/abi.h"
#include "../abi/limits.h"
#include "hipcomm.h"

uint64_t dtype_size(hipcommDataType_t dtype); /* bytes of an element */
bool dtype_is_valid(int dtype);
bool dtype_is_float8(hipcommDataType_t dtype);
hipcommFloat8 float8_format(hipcommDataType_t dtype); /* all zero for other dtypes */
bool redop_is_valid(int op);

/* "unknown ..." for other numbers */
const char* dtype_name(uint32_t dtype);
const char* redop_name(uint32_t op);
const char* operation_name(uint32_t operation);
const char* algorithm_name(uint32_t algorithm);

#endif
