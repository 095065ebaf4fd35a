#include "arenas.h"

#include <stdlib.h>
#include <string.h>

#define GRANULE 512u                 /* bytes; cuts begin and end at multiples of it */
#define SMALLEST_ARENA (2ull << 20)  /* bytes; hipIpcGetMemHandle has refused smaller memory */

uint64_t arena_size(uint64_t bytes) {
    uint64_t size = SMALLEST_ARENA;
    while (size < bytes) size *= 2;
    return size;
}

enum CutResult cut(CutList* list, uint64_t bytes, uint64_t* offset) {
    const uint64_t wanted = bytes ? (bytes + GRANULE - 1) / GRANULE * GRANULE : GRANULE;
    uint64_t begin = 0;
    uint32_t place = 0; /* of the first cut behind the free part that begins at `begin` */
    for (; place < list->count && list->cuts[place].offset - begin < wanted; ++place)
        begin = list->cuts[place].offset + list->cuts[place].bytes;
    if (list->bytes - begin < wanted) return kNoRoom;
    if (list->count == list->capacity) {
        const uint32_t capacity = 2 * list->capacity + 16;
        Cut* grown = realloc(list->cuts, capacity * sizeof *grown);
        if (!grown) return kNoMemory;
        list->cuts = grown;
        list->capacity = capacity;
    }
    memmove(&list->cuts[place + 1], &list->cuts[place], (list->count - place) * sizeof list->cuts[0]);
    list->cuts[place] = (Cut){begin, wanted};
    ++list->count;
    *offset = begin;
    return kCut;
}

void give_back(CutList* list, uint64_t offset) {
    for (uint32_t i = 0; i < list->count; ++i) {
        if (list->cuts[i].offset != offset) continue;
        memmove(&list->cuts[i], &list->cuts[i + 1], (list->count - i - 1) * sizeof list->cuts[0]);
        --list->count;
        return;
    }
}
