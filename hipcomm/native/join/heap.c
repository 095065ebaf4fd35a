#include "heap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "errors.h"

#define MOST_BYTES (1ull << 46)

/* ---- arenas --------------------------------------------------------------------------------------------------------*/

static void forget_arena(Arena* arena) {
    free(arena->cuts.cuts);
    free(arena);
}

static hipcommResult_t free_arena(Arena* arena) {
    const hipcommResult_t result = arena->memory ? HIP_CALL(Free, arena->memory) : hipcommSuccess;
    forget_arena(arena);
    return result;
}

static hipcommResult_t add_arena(Heap* heap, uint64_t bytes) {
    Arena* arena = calloc(1, sizeof *arena);
    hipcommResult_t problem = hipcommSuccess;
    if (arena)
        problem = HIP_CALL(Malloc, &arena->memory, bytes);
    else
        problem = set_error(NULL, hipcommOutOfMemory, "no memory for an arena");
    if (problem != hipcommSuccess) prefix_error(problem, "rank %d: symmetric memory: ", heap->ranks->rank);
    const Area area = {"symmetric memory", arena ? arena->memory : NULL, bytes};
    MappedRegion region;
    const hipcommResult_t result = make_region(heap->ranks, heap->comm, &area, problem, &region);
    if (result != hipcommSuccess) {
        const KeptError first = keep_error(result);
        return first_error(&first, arena ? free_arena(arena) : hipcommSuccess);
    }
    arena->region = region;
    arena->cuts.bytes = bytes;
    arena->number = heap->next_arena++;
    Arena** place = &heap->arenas;
    while (*place) place = &(*place)->next;
    *place = arena;
    return hipcommSuccess;
}

/* No kernel uses it: the rank that freed the last allocation has waited for its device. */
static hipcommResult_t remove_arena(Heap* heap, Arena* arena) {
    Arena** place = &heap->arenas;
    while (*place != arena) place = &(*place)->next;
    *place = arena->next;
    hipcommResult_t result = end_region(heap->comm, &arena->region);
    if (result == hipcommSuccess) result = ranks_gather_equal(heap->ranks, HIPCOMM_WIRE_TAG_UNMAPPED, NULL, 0, NULL);
    if (result == hipcommSuccess) return free_arena(arena);
    forget_arena(arena);
    return result;
}

/* One empty arena stays, for a program that allocates and frees in turns. */
static hipcommResult_t remove_empty_arenas(Heap* heap) {
    bool is_first = true;
    for (Arena *arena = heap->arenas, *next; arena; arena = next) {
        next = arena->next;
        if (arena->cuts.count > 0) continue;
        if (!is_first) {
            const hipcommResult_t result = remove_arena(heap, arena);
            if (result != hipcommSuccess) return result;
        }
        is_first = false;
    }
    return hipcommSuccess;
}

/* ---- allocations ---------------------------------------------------------------------------------------------------*/

/* Compare sizes. What Python's ranks name as garbage stays: of a C program nothing is garbage. */
static hipcommResult_t agree_on_bytes(Heap* heap, uint64_t bytes, hipcommResult_t problem) {
    const int rank = heap->ranks->rank;
    hipcommWireAllocation mine = {bytes}, theirs, first;
    Gathered gathered;
    hipcommResult_t result =
        ranks_agree(heap->ranks, HIPCOMM_WIRE_TAG_EMPTY, problem, &mine, sizeof mine, &gathered);
    for (int peer = 0; peer < gathered.parts && result == hipcommSuccess; ++peer) {
        if (gathered.size[peer] < sizeof theirs) {
            result = set_error(NULL, hipcommPlatformError, "rank %d: empty: rank %d has sent %u bytes", rank, peer,
                               gathered.size[peer]);
            break;
        }
        memcpy(&theirs, gathered.data[peer], sizeof theirs);
        if (peer == 0) first = theirs;
        if (theirs.nbytes != first.nbytes)
            result = set_error(NULL, hipcommInvalidArgument,
                               "rank %d: empty: rank %d asks for %llu bytes and rank 0 for %llu; symmetric memory has "
                               "one size on all ranks", rank, peer, (unsigned long long)theirs.nbytes,
                               (unsigned long long)first.nbytes);
    }
    free(gathered.memory);
    return result;
}

/* kNoRoom: in none of the arenas. */
static enum CutResult cut_somewhere(Heap* heap, uint64_t bytes, Allocation* allocation) {
    for (Arena* arena = heap->arenas; arena; arena = arena->next) {
        uint64_t offset;
        const enum CutResult result = cut(&arena->cuts, bytes, &offset);
        if (result == kNoRoom) continue;
        allocation->arena = arena;
        allocation->address = arena->region.address + (result == kCut ? offset : 0);
        return result;
    }
    return kNoRoom;
}

hipcommResult_t heap_allocate(Heap* heap, uint64_t bytes, void** address) {
    Allocation* allocation = calloc(1, sizeof *allocation);
    hipcommResult_t problem = hipcommSuccess;
    if (!allocation)
        problem = set_error(NULL, hipcommOutOfMemory, "rank %d: empty: no memory", heap->ranks->rank);
    else if (bytes > MOST_BYTES)
        problem = set_error(NULL, hipcommInvalidArgument, "rank %d: empty: %llu bytes are not possible",
                            heap->ranks->rank, (unsigned long long)bytes);
    hipcommResult_t result = agree_on_bytes(heap, bytes, problem);
    enum CutResult outcome = kNoRoom;
    if (result == hipcommSuccess) outcome = cut_somewhere(heap, bytes, allocation);
    if (result == hipcommSuccess && outcome == kNoRoom) {
        result = add_arena(heap, arena_size(bytes));
        if (result == hipcommSuccess) outcome = cut_somewhere(heap, bytes, allocation);
    }
    if (result == hipcommSuccess && outcome != kCut) /* the ranks' books differ from now on */
        result = set_error(NULL, hipcommOutOfMemory, "rank %d: empty: no memory for the books", heap->ranks->rank);
    if (result != hipcommSuccess) {
        free(allocation);
        return result;
    }
    allocation->serial = heap->next_serial++;
    allocation->next = heap->allocations;
    heap->allocations = allocation;
    *address = allocation->address;
    return hipcommSuccess;
}

static hipcommResult_t refuse_differing(const Heap* heap, const hipcommWireFree* all) {
    char serials[16 * HIPCOMM_MAX_RANKS] = "";
    size_t used = 0;
    for (int peer = 0; peer < heap->ranks->world && used < sizeof serials; ++peer)
        used += (size_t)snprintf(serials + used, sizeof serials - used, "%s%llu", peer ? ", " : "",
                                 (unsigned long long)all[peer].serial);
    return set_error(NULL, hipcommInvalidArgument,
                     "rank %d: free: the ranks free different arrays: allocations [%s], by rank", heap->ranks->rank,
                     serials);
}

hipcommResult_t heap_free(Heap* heap, void* address) {
    Allocation** place = &heap->allocations;
    while (*place && (*place)->address != address) place = &(*place)->next;
    Allocation* const freed = *place;
    if (!freed)
        return set_error(NULL, hipcommInvalidArgument, "rank %d: free %p: not the address of a symmetric allocation",
                         heap->ranks->rank, address);
    hipcommWireFree all[HIPCOMM_MAX_RANKS];
    const hipcommWireFree mine = {freed->serial};
    hipcommResult_t result = HIP_CALL(DeviceSynchronize);
    if (result == hipcommSuccess)
        result = ranks_gather_equal(heap->ranks, HIPCOMM_WIRE_TAG_FREE, &mine, sizeof mine, all);
    if (result != hipcommSuccess) return result;
    for (int peer = 1; peer < heap->ranks->world; ++peer)
        if (all[peer].serial != all[0].serial) return refuse_differing(heap, all);
    *place = freed->next;
    give_back(&freed->arena->cuts, (uint64_t)((char*)address - freed->arena->region.address));
    free(freed);
    return remove_empty_arenas(heap);
}

/* ---- the end, step by step with the communicator's other memory ----------------------------------------------------*/

hipcommResult_t heap_close_peers(Heap* heap) {
    KeptError first = keep_error(hipcommSuccess);
    for (Arena* arena = heap->arenas; arena; arena = arena->next)
        first = keep_error(first_error(&first, end_region(heap->comm, &arena->region)));
    return first_error(&first, hipcommSuccess);
}

static void forget_allocations(Heap* heap) {
    while (heap->allocations) {
        Allocation* next = heap->allocations->next;
        free(heap->allocations);
        heap->allocations = next;
    }
}

hipcommResult_t heap_free_all(Heap* heap) {
    KeptError first = keep_error(hipcommSuccess);
    while (heap->arenas) {
        Arena* arena = heap->arenas;
        heap->arenas = arena->next;
        first = keep_error(first_error(&first, free_arena(arena)));
    }
    forget_allocations(heap);
    return first_error(&first, hipcommSuccess);
}

void heap_forget(Heap* heap) {
    while (heap->arenas) {
        Arena* next = heap->arenas->next;
        forget_arena(heap->arenas);
        heap->arenas = next;
    }
    forget_allocations(heap);
}
