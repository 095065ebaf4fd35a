/* What a communicator itself allocates: two slabs of device memory, and the status page. */
#ifndef HIPCOMM_NATIVE_JOIN_SLABS_H
#define HIPCOMM_NATIVE_JOIN_SLABS_H

#include "hipcomm_internal.h"
#include "peers.h"

typedef struct Slabs {
    void *control, *staging; /* this rank's; NULL: not allocated */
    PeerMemory peers;        /* addresses[0]: of the control slabs, [1]: of the staging slabs */
} Slabs;

/* Allocate this rank's slabs and map the peers'. Collective; on an error nothing is left of them. */
hipcommResult_t make_slabs(Ranks* ranks, const hipcommLayout* layout, Slabs* slabs);

/* No peer may have them mapped any more. */
hipcommResult_t free_slabs(Slabs* slabs);

/* Pinned host memory through which host and kernels tell each other of failures. */
typedef struct StatusPage {
    void *host, *device;
} StatusPage;
hipcommResult_t make_status_page(uint64_t bytes, StatusPage* page);
hipcommResult_t free_status_page(StatusPage* page);

#endif
