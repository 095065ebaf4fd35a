/* Cutting allocations from arenas: bookkeeping without any memory. All ranks make the same calls in the same order, so all
 * get the same cuts. docs/protocol.md, section 5.3. */
#ifndef HIPCOMM_NATIVE_JOIN_ARENAS_H
#define HIPCOMM_NATIVE_JOIN_ARENAS_H

#include <stdbool.h>
#include <stdint.h>

/* A part of an arena that is in use. */
typedef struct Cut {
    uint64_t offset, bytes;
} Cut;

typedef struct CutList {
    uint64_t bytes; /* of the arena */
    Cut* cuts;      /* by offset */
    uint32_t count, capacity;
} CutList;

/* The size of a new arena that an allocation fits into. */
uint64_t arena_size(uint64_t bytes);

enum CutResult { kCut, kNoRoom, kNoMemory };

/* Take the first free part that is large enough. */
enum CutResult cut(CutList* list, uint64_t bytes, uint64_t* offset);

void give_back(CutList* list, uint64_t offset);

#endif
