/* The peers' allocations that this process has mapped: each once, however many communicators and regions want it. Few
 * handles are open then, and nothing depends on a HIP library to count repeated opens. */
#ifndef HIPCOMM_NATIVE_JOIN_MAPPINGS_H
#define HIPCOMM_NATIVE_JOIN_MAPPINGS_H

#include "platform.h"

/* Where the allocation of a handle begins here. */
hipcommResult_t open_mapping(const hipIpcMemHandle_t* handle, char** base);

/* One user less; the last one unmaps it. */
hipcommResult_t close_mapping(const hipIpcMemHandle_t* handle);

#endif
