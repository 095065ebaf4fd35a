/* The foreign memory that a communicator's user has registered. */
#ifndef HIPCOMM_NATIVE_JOIN_REGISTRATIONS_H
#define HIPCOMM_NATIVE_JOIN_REGISTRATIONS_H

#include "mapped_region.h"

typedef struct Registration {
    MappedRegion region;
    struct Registration* next;
} Registration;

typedef struct Registrations {
    Ranks* ranks;
    hipcommComm_t comm;
    Registration* list;
} Registrations;

/* Both are collective; the communicator's device is current. */
hipcommResult_t register_memory(Registrations* registrations, void* address, uint64_t bytes);
hipcommResult_t deregister_memory(Registrations* registrations, void* address);

/* Unmap everything: nothing that uses it may be running here. */
hipcommResult_t close_registrations(Registrations* registrations);
void forget_registrations(Registrations* registrations);

#endif
