#include "mapped_region.h"

#include <stdio.h>

#include "errors.h"

/* Tell the core, and compare the numbers that the ranks' cores have given. */
static hipcommResult_t number_region(Ranks* ranks, hipcommComm_t comm, MappedRegion* region) {
    hipcommWireRegion all[HIPCOMM_MAX_RANKS];
    hipcommResult_t problem = hipcommCommAddRegion(comm, region->peers.addresses[0], region->bytes, &region->number);
    if (problem != hipcommSuccess) set_error(NULL, problem, "%s", hipcommGetLastError(comm));
    const hipcommWireRegion mine = {region->number};
    const char* const tag = HIPCOMM_WIRE_TAG_REGION "/" HIPCOMM_WIRE_STEP_NUMBER;
    const hipcommResult_t result = ranks_agree_equal(ranks, tag, problem, &mine, sizeof mine, all);
    if (result != hipcommSuccess) return result;
    for (int rank = 1; rank < ranks->world; ++rank)
        if (all[rank].number != all[0].number)
            return set_error(NULL, hipcommInvalidArgument,
                             "rank %d: the ranks have registered memory in different orders: the region's number is %d "
                             "on rank 0 and %d on rank %d", ranks->rank, all[0].number, all[rank].number, rank);
    return hipcommSuccess;
}

hipcommResult_t make_region(Ranks* ranks, hipcommComm_t comm, const Area* area, hipcommResult_t problem,
                            MappedRegion* region) {
    *region = (MappedRegion){.address = area->address, .bytes = area->bytes, .number = -1};
    hipcommResult_t result = share_memory(ranks, HIPCOMM_WIRE_TAG_REGION, area, 1, problem, &region->peers);
    if (result != hipcommSuccess) return result;
    result = number_region(ranks, comm, region);
    if (result == hipcommSuccess) return result;
    const KeptError first = keep_error(result);
    return first_error(&first, end_region(comm, region));
}

hipcommResult_t end_region(hipcommComm_t comm, MappedRegion* region) {
    hipcommResult_t result = hipcommSuccess;
    if (region->number >= 0) {
        result = hipcommCommRemoveRegion(comm, region->number);
        if (result != hipcommSuccess) set_error(NULL, result, "%s", hipcommGetLastError(comm));
        region->number = -1;
    }
    const KeptError first = keep_error(result);
    return first_error(&first, close_peers(&region->peers));
}
