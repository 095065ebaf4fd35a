/* A region: memory of all ranks under one number, on which collectives may work in place. docs/protocol.md, section 5.3 */
#ifndef HIPCOMM_NATIVE_JOIN_MAPPED_REGION_H
#define HIPCOMM_NATIVE_JOIN_MAPPED_REGION_H

#include "peers.h"

typedef struct MappedRegion {
    char* address; /* of this rank's part */
    uint64_t bytes;
    int number; /* that the core has given it */
    PeerMemory peers;
} MappedRegion;

/* Map the memory of all ranks and tell the core. Collective; `problem` as for ranks_agree(). On an error no rank has
 * the region. */
hipcommResult_t make_region(Ranks* ranks, hipcommComm_t comm, const Area* area, hipcommResult_t problem,
                            MappedRegion* region);

/* Take it from the core and unmap the peers' memory: nothing that uses it may be running here. */
hipcommResult_t end_region(hipcommComm_t comm, MappedRegion* region);

#endif
