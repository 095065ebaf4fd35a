/* Memory of all ranks, mapped into this process: export, exchange, open, verify. docs/protocol.md, section 5.2. */
#ifndef HIPCOMM_NATIVE_JOIN_PEERS_H
#define HIPCOMM_NATIVE_JOIN_PEERS_H

#include "platform.h"
#include "ranks.h"

#define MAX_AREAS 2 /* that are shared at a time */

/* A part of this rank's device memory; of as many bytes on each rank. */
typedef struct Area {
    const char* name; /* for messages */
    char* address;
    uint64_t bytes;
} Area;

typedef struct PeerMemory {
    void* addresses[MAX_AREAS][HIPCOMM_MAX_RANKS]; /* as mapped in this process */
    uint32_t pids[HIPCOMM_MAX_RANKS];              /* of the ranks' processes */
    int opened;
    hipIpcMemHandle_t handles[MAX_AREAS * HIPCOMM_MAX_RANKS];
} PeerMemory;

/* Collective. `problem` as for ranks_agree(): then there are no areas. The first bytes of an area are overwritten for a
 * moment, and put back. */
hipcommResult_t share_memory(Ranks* ranks, const char* tag, const Area* areas, int count, hipcommResult_t problem,
                             PeerMemory* memory);

/* Unmap the peers' memory: nothing that uses it may be running here. */
hipcommResult_t close_peers(PeerMemory* memory);

/* The base and the size of the allocation that an address lies in. */
hipcommResult_t find_allocation(const void* address, char** base, size_t* bytes);

#endif
