/* Registered memory: which of the caller's buffers peers can reach. */
#ifndef HIPCOMM_NATIVE_REGIONS_H
#define HIPCOMM_NATIVE_REGIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "../abi/slabs.h"

typedef struct Region {
    uintptr_t base; /* as this rank addresses its own part */
    uint64_t bytes;
    uint32_t number; /* index into the kernels' table of mappings, the same on all ranks */
} Region;

/* Sorted by base, disjoint. Changed between calls only, so calls look things up without a lock. */
typedef struct RegionTable {
    uint32_t count;
    bool is_used[HIPCOMM_MAX_REGIONS]; /* by number */
    Region regions[HIPCOMM_MAX_REGIONS];
} RegionTable;

/* The place of [pointer, pointer + bytes) if it lies in one region, else HIPCOMM_NO_PLACE. */
uint64_t find_place(const RegionTable* table, const void* pointer, uint64_t bytes);

/* The lowest free number; -1 if the table is full. Ranks that add and remove alike get alike numbers. */
int free_region_number(const RegionTable* table);

bool overlaps_region(const RegionTable* table, const void* base, uint64_t bytes);

/* Add a region that overlaps no other, under a free number. */
void add_region(RegionTable* table, const void* base, uint64_t bytes, uint32_t number);

/* False if there is no region of this number. */
bool remove_region(RegionTable* table, uint32_t number);

#endif
