/* A communicator's heap: the memory that symmetric allocations are cut from. It is a few large arenas with one handle
 * each. All ranks allocate and free in the same order, so every rank cuts at the same offsets; what they exchange is only
 * whether they agree. */
#ifndef HIPCOMM_NATIVE_JOIN_HEAP_H
#define HIPCOMM_NATIVE_JOIN_HEAP_H

#include "arenas.h"
#include "mapped_region.h"

typedef struct Arena {
    uint32_t number;
    void* memory; /* this rank's; NULL: not allocated */
    MappedRegion region;
    CutList cuts;
    struct Arena* next; /* of the next number */
} Arena;

typedef struct Allocation {
    uint64_t serial;
    void* address;
    Arena* arena;
    struct Allocation* next;
} Allocation;

typedef struct Heap {
    Ranks* ranks;
    hipcommComm_t comm;
    Arena* arenas;
    Allocation* allocations; /* newest first */
    uint64_t next_serial;
    uint32_t next_arena;
} Heap;

/* The next two are collective; the communicator's device is current. `problem` as for ranks_agree(). */
hipcommResult_t heap_allocate(Heap* heap, uint64_t bytes, void** address);
hipcommResult_t heap_free(Heap* heap, void* address);

/* Unmap the peers' arenas: nothing that uses them may be running here, or comes later. */
hipcommResult_t heap_close_peers(Heap* heap);

/* Free this rank's arenas: no peer may have them mapped any more. */
hipcommResult_t heap_free_all(Heap* heap);

/* Forget the arenas, whose memory stays: a peer may still write to it. */
void heap_forget(Heap* heap);

#endif
