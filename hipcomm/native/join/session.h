/* A communicator that this library has made, and how it comes to be and ends: the control plane's side, step by step.
 * docs/protocol.md, sections 5.1 and 5.4. Every step that one rank could fail alone is followed by a word to the others,
 * so that all ranks fail, with the same reason. */
#ifndef HIPCOMM_NATIVE_JOIN_SESSION_H
#define HIPCOMM_NATIVE_JOIN_SESSION_H

#include <stdatomic.h>

#include "code_objects.h"
#include "device.h"
#include "heap.h"
#include "registrations.h"
#include "slabs.h"

typedef struct Session {
    Ranks ranks;
    Settings settings;
    const Platform* platform;
    Device device;
    Slabs slabs;
    StatusPage status;
    Heap heap;
    Registrations registrations;
    hipcommComm_t comm; /* NULL: not made, or destroyed */
    Listener listener;
    bool is_listening;
    atomic_bool has_failed; /* the communicator, or the job */
    bool is_over;           /* finalized */
} Session;

/* Join the job and set up the communicator of all its ranks. Collective. `hosted` and `host_pid`: the server that this
 * process has started already, or NULL; the process that has, or 0. The device is current afterwards. */
hipcommResult_t session_join(const Identity* identity, const Settings* settings, Server* hosted, uint32_t host_pid,
                             hipcommComm_t* comm);

/* Set up a communicator of those ranks that give the same color; *comm is NULL where takes_part is false. Collective. */
hipcommResult_t session_split(Session* session, bool takes_part, int64_t color, int64_t key, hipcommComm_t* comm);

/* Leave together; after a failure, alone. The communicator is still there, and refuses every call. */
hipcommResult_t session_end(Session* session);

/* Free it. */
hipcommResult_t session_destroy(Session* session);

/* Tell all ranks, this one included, that the communicator has failed. From any thread. */
void session_abort(Session* session, const char* reason, hipcommResult_t result);

#endif
