/* What the environment says, and the caller: which rank this is, and how the library is to behave. Read once, when a
 * communicator is made. */
#ifndef HIPCOMM_NATIVE_JOIN_SETTINGS_H
#define HIPCOMM_NATIVE_JOIN_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "../../abi/wire.h"
#include "hipcomm.h"

typedef struct Endpoint {
    char host[256]; /* "": none */
    int port;
    char token[HIPCOMM_WIRE_MAX_TOKEN + 1];
} Endpoint;

typedef struct Settings {
    Endpoint rendezvous; /* no host: rank 0 hosts the server */
    char platform[16];
    char device[64]; /* ordinal, PCI bus id or UUID; "": by local rank */
    bool share_devices;
    double timeout, join_timeout; /* seconds */
    hipcommAlgorithm_t algorithm;
    uint64_t staging_bytes; /* 0: the architecture's */
    bool check;
} Settings;

typedef struct Identity {
    int rank, world, local_rank;
    char job[2048]; /* tells this job apart from others of the same user; the same on all ranks */
} Identity;

/* hipcommInvalidArgument where a text is not what it should be; the message names it. `given` may be NULL. */
hipcommResult_t read_settings(const hipcommSettings* given, Settings* settings);

/* From the launchers' variables; with none of them a world of one. */
hipcommResult_t read_identity(Identity* identity);

#endif
