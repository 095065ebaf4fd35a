#include "registrations.h"

#include <stdio.h>
#include <stdlib.h>

#include "errors.h"

static hipcommResult_t refuse(const Registrations* registrations, void* address, uint64_t bytes, const char* why) {
    return set_error(NULL, hipcommInvalidArgument,
                     "rank %d: register %p (%llu bytes): %s. Ordinary device memory (hipMalloc) can be registered; memory "
                     "of pools and of virtual-memory allocators, managed memory and host memory cannot. Symmetric memory "
                     "(hipcommMemAlloc) needs no registration", registrations->ranks->rank, address,
                     (unsigned long long)bytes, why);
}

static hipcommResult_t check_memory(const Registrations* registrations, void* address, uint64_t bytes) {
    char why[512];
    char* base;
    size_t size;
    if (bytes == 0) return refuse(registrations, address, bytes, "there is nothing to register");
    if (find_allocation(address, &base, &size) != hipcommSuccess) {
        snprintf(why, sizeof why, "it is not device memory (%.400s)", hipcommGetLastError(NULL));
        return refuse(registrations, address, bytes, why);
    }
    const uint64_t rest = size - (uint64_t)((char*)address - base);
    if (bytes > rest) {
        snprintf(why, sizeof why, "the allocation that it lies in has only %llu bytes from there on",
                 (unsigned long long)rest);
        return refuse(registrations, address, bytes, why);
    }
    /* verifying the mapping overwrites the first bytes for a moment: nobody may be at work there */
    return HIP_CALL(DeviceSynchronize);
}

hipcommResult_t register_memory(Registrations* registrations, void* address, uint64_t bytes) {
    Registration* registration = calloc(1, sizeof *registration);
    hipcommResult_t problem = check_memory(registrations, address, bytes);
    if (!registration)
        problem = set_error(NULL, hipcommOutOfMemory, "rank %d: register: no memory", registrations->ranks->rank);
    char name[64];
    snprintf(name, sizeof name, "registered memory at %p", address);
    const Area area = {name, address, bytes};
    MappedRegion region;
    const hipcommResult_t result = make_region(registrations->ranks, registrations->comm, &area, problem, &region);
    if (result != hipcommSuccess) {
        free(registration);
        return result;
    }
    registration->region = region;
    registration->next = registrations->list;
    registrations->list = registration;
    return hipcommSuccess;
}

hipcommResult_t deregister_memory(Registrations* registrations, void* address) {
    Ranks* ranks = registrations->ranks;
    Registration** place = &registrations->list;
    while (*place && (*place)->region.address != address) place = &(*place)->next;
    Registration* const removed = *place;
    hipcommResult_t problem = hipcommSuccess;
    if (!removed)
        problem = set_error(NULL, hipcommInvalidArgument, "rank %d: deregister: nothing registered begins at %p",
                            ranks->rank, address);
    hipcommWireRegion all[HIPCOMM_MAX_RANKS];
    const hipcommWireRegion mine = {removed ? removed->region.number : -1};
    hipcommResult_t result =
        ranks_agree_equal(ranks, HIPCOMM_WIRE_TAG_DEREGISTER, problem, &mine, sizeof mine, all);
    for (int peer = 1; peer < ranks->world && result == hipcommSuccess; ++peer)
        if (all[peer].number != all[0].number)
            result = set_error(NULL, hipcommInvalidArgument, "rank %d: deregister: the ranks name different memory",
                               ranks->rank);
    if (result == hipcommSuccess) result = HIP_CALL(DeviceSynchronize);
    if (result != hipcommSuccess) return result;
    *place = removed->next;
    result = end_region(registrations->comm, &removed->region);
    free(removed);
    if (result != hipcommSuccess) return result;
    return ranks_gather_equal(ranks, HIPCOMM_WIRE_TAG_DEREGISTERED, NULL, 0, NULL); /* now the memory may be freed */
}

hipcommResult_t close_registrations(Registrations* registrations) {
    KeptError first = keep_error(hipcommSuccess);
    for (Registration* each = registrations->list; each; each = each->next)
        first = keep_error(first_error(&first, end_region(registrations->comm, &each->region)));
    forget_registrations(registrations);
    return first_error(&first, hipcommSuccess);
}

void forget_registrations(Registrations* registrations) {
    while (registrations->list) {
        Registration* next = registrations->list->next;
        free(registrations->list);
        registrations->list = next;
    }
}
