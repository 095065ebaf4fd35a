/* Names and sizes of what the public enums number. */
#ifndef HIPCOMM_NATIVE_NAMES_H
#define HIPCOMM_NATIVE_NAMES_H

#include <stdbool.h>

#include "../../kernels/abi.h"
#include "hipcomm.h"

/* Bytes of an element; the dtype must be valid. */
uint64_t dtype_size(hipcommDataType_t dtype);
bool dtype_is_valid(int dtype);
bool dtype_is_float8(hipcommDataType_t dtype);
hipcommFloat8 float8_format(hipcommDataType_t dtype); /* all zero for other dtypes */
bool redop_is_valid(int op);

const char* dtype_name(hipcommDataType_t dtype);
const char* redop_name(hipcommRedOp_t op);
const char* operation_name(uint32_t operation);
const char* algorithm_name(uint32_t algorithm);

#endif
