#include "slabs.h"

#include "errors.h"

static hipcommResult_t allocate(uint64_t bytes, bool is_uncached, void** memory) {
    return is_uncached ? HIP_CALL(ExtMallocWithFlags, memory, bytes, hipDeviceMallocUncached)
                       : HIP_CALL(Malloc, memory, bytes);
}

static hipcommResult_t free_memory(void** memory) {
    void* const freed = *memory;
    *memory = NULL;
    return freed ? HIP_CALL(Free, freed) : hipcommSuccess;
}

hipcommResult_t make_slabs(Ranks* ranks, const hipcommLayout* layout, Slabs* slabs) {
    hipcommResult_t problem = allocate(layout->control_bytes, true, &slabs->control);
    if (problem == hipcommSuccess) problem = allocate(layout->staging_bytes, layout->staging_uncached, &slabs->staging);
    if (problem != hipcommSuccess) prefix_error(problem, "rank %d: ", ranks->rank);
    const Area areas[2] = {{"control slab", slabs->control, layout->control_bytes},
                           {"staging slab", slabs->staging, layout->staging_bytes}};
    const hipcommResult_t result = share_memory(ranks, HIPCOMM_WIRE_TAG_SLABS, areas, 2, problem, &slabs->peers);
    if (result == hipcommSuccess) return result;
    const KeptError first = keep_error(result); /* nobody has got a communicator, so nobody's kernels write here */
    return first_error(&first, free_slabs(slabs));
}

hipcommResult_t free_slabs(Slabs* slabs) {
    const KeptError first = keep_error(free_memory(&slabs->control));
    return first_error(&first, free_memory(&slabs->staging));
}

hipcommResult_t make_status_page(uint64_t bytes, StatusPage* page) {
    const hipcommResult_t result =
        HIP_CALL(HostMalloc, &page->host, bytes, hipHostMallocMapped | hipHostMallocPortable);
    return result == hipcommSuccess ? HIP_CALL(HostGetDevicePointer, &page->device, page->host, 0) : result;
}

hipcommResult_t free_status_page(StatusPage* page) {
    void* const freed = page->host;
    *page = (StatusPage){NULL, NULL};
    return freed ? HIP_CALL(HostFree, freed) : hipcommSuccess;
}
