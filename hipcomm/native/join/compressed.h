/* Files in gzip's format: a wheel's PTX. */
#ifndef HIPCOMM_NATIVE_JOIN_COMPRESSED_H
#define HIPCOMM_NATIVE_JOIN_COMPRESSED_H

#include "../failure.h"

/* What the file holds, unpacked, and a zero byte: to be freed. */
hipcommResult_t read_compressed(const char* path, char** data);

#endif
