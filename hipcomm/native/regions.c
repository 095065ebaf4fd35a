#include "regions.h"

#include <string.h>

#include "failure.h"

/* The number of regions that begin at or before the address. */
static uint32_t count_up_to(const RegionTable* table, uintptr_t address) {
    uint32_t low = 0, high = table->count;
    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        if (table->regions[middle].base <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint64_t find_place(const RegionTable* table, const void* pointer, uint64_t bytes) {
    const uintptr_t address = (uintptr_t)pointer;
    const uint32_t after = count_up_to(table, address);
    if (after == 0) return HIPCOMM_NO_PLACE;
    const Region* region = &table->regions[after - 1];
    const uint64_t offset = address - region->base;
    if (offset > region->bytes || bytes > region->bytes - offset) return HIPCOMM_NO_PLACE;
    return (uint64_t)region->number << HIPCOMM_PLACE_OFFSET_BITS | offset;
}

int free_region_number(const RegionTable* table) {
    for (int number = 0; number < HIPCOMM_MAX_REGIONS; ++number)
        if (!table->is_used[number]) return number;
    return -1;
}

bool overlaps_region(const RegionTable* table, const void* base, uint64_t bytes) {
    const uintptr_t address = (uintptr_t)base;
    const uint32_t after = count_up_to(table, address);
    const Region* before = after ? &table->regions[after - 1] : NULL;
    if (before && address - before->base < before->bytes) return true;
    return after < table->count && table->regions[after].base - address < bytes;
}

void add_region(RegionTable* table, const void* base, uint64_t bytes, uint32_t number) {
    const uint32_t position = count_up_to(table, (uintptr_t)base);
    Region* const place = &table->regions[position];
    memmove(place + 1, place, (table->count - position) * sizeof *place);
    *place = (Region){.base = (uintptr_t)base, .bytes = bytes, .number = number};
    table->is_used[number] = true;
    ++table->count;
}

bool remove_region(RegionTable* table, uint32_t number) {
    for (uint32_t i = 0; i < table->count; ++i) {
        if (table->regions[i].number != number) continue;
        memmove(&table->regions[i], &table->regions[i + 1], (table->count - i - 1) * sizeof table->regions[0]);
        table->is_used[number] = false;
        --table->count;
        return true;
    }
    return false;
}

/* ---- the calls -------------------------------------------------------------------------------------*/

static hipcommResult_t refuse(hipcommComm_t comm, void* base, uint64_t bytes, const char* why) {
    return set_error(comm, hipcommInvalidArgument, "rank %u: register %p (%llu bytes): %s", comm->args.rank, base,
                     (unsigned long long)bytes, why);
}

hipcommResult_t hipcommCommAddRegion(hipcommComm_t comm, void* const* bases, uint64_t bytes, int* number) {
    if (!is_live(comm) || !bases || !number)
        return set_error(NULL, hipcommInvalidArgument, "comm, bases or number is NULL");
    void* const own = bases[comm->args.rank];
    if (bytes == 0 || bytes >> HIPCOMM_PLACE_OFFSET_BITS) return refuse(comm, own, bytes, "not a possible size");
    if (overlaps_region(&comm->regions, own, bytes))
        return refuse(comm, own, bytes, "some of it is registered already");
    const int free_number = free_region_number(&comm->regions);
    if (free_number < 0) return refuse(comm, own, bytes, "there are 256 registered regions already");

    uint64_t row[HIPCOMM_MAX_RANKS] = {0};
    for (uint32_t rank = 0; rank < comm->args.world; ++rank) row[rank] = (uintptr_t)bases[rank];
    char* const table = comm->args.control[comm->args.rank] + HIPCOMM_REGIONS_OFFSET;
    const hipError_t error =
        comm->hip.Memcpy(table + (size_t)free_number * sizeof row, row, sizeof row, hipMemcpyHostToDevice);
    if (error != hipSuccess) return hip_error(comm, "hipMemcpy of a region's addresses", error);
    add_region(&comm->regions, own, bytes, (uint32_t)free_number);
    *number = free_number;
    return hipcommSuccess;
}

hipcommResult_t hipcommCommRemoveRegion(hipcommComm_t comm, int number) {
    if (!is_live(comm)) return no_comm();
    if (number < 0 || !remove_region(&comm->regions, (uint32_t)number))
        return set_error(comm, hipcommInvalidArgument, "rank %u: there is no region %d", comm->args.rank, number);
    return hipcommSuccess;
}
