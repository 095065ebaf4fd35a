#include "agreement.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "../tables.h"
#include "errors.h"

#define COMPARED offsetof(hipcommWireAgreement, multiprocessors) /* bytes */

static void describe(const hipcommWireAgreement* agreement, char* text, size_t size) {
    snprintf(text, size,
             "(version %.16s, HIPCOMM_ALGORITHM=%s, HIPCOMM_STAGING_BYTES=%llu, HIPCOMM_TIMEOUT=%g, HIPCOMM_CHECK=%u, "
             "HIPCOMM_SHARE_DEVICES=%u, %.32s)", agreement->version, algorithm_name(agreement->algorithm),
             (unsigned long long)agreement->staging_bytes, (double)agreement->timeout_us / 1e6, agreement->check,
             agreement->share_devices, agreement->arch);
}

static hipcommResult_t compare(const Ranks* ranks, const hipcommWireAgreement* all) {
    for (int peer = 1; peer < ranks->world; ++peer) {
        if (memcmp(&all[peer], &all[0], COMPARED) == 0) continue;
        char theirs[320], first[320];
        describe(&all[peer], theirs, sizeof theirs);
        describe(&all[0], first, sizeof first);
        return set_error(NULL, hipcommInvalidArgument, "rank %d and rank 0 differ in their settings: %s and %s", peer,
                         theirs, first);
    }
    for (int peer = 1; peer < ranks->world && !all[0].share_devices; ++peer)
        for (int other = 0; other < peer; ++other)
            if (memcmp(all[peer].device, all[other].device, sizeof all[peer].device) == 0)
                return set_error(NULL, hipcommInvalidArgument,
                                 "ranks %d and %d are on the same device, %.32s: kernels that wait for each other need a "
                                 "device each; see HIPCOMM_DEVICE, or HIPCOMM_SHARE_DEVICES to try a program out", other,
                                 peer, all[peer].device);
    return hipcommSuccess;
}

/* One block for each multiprocessor. Blocks of all ranks wait for each other, so those of ranks on one device must fit
 * on it side by side. */
static uint32_t blocks_that_fit(const Ranks* ranks, const hipcommWireAgreement* all) {
    uint32_t least = UINT32_MAX;
    for (int rank = 0; rank < ranks->world; ++rank) {
        uint32_t users = 0;
        for (int other = 0; other < ranks->world; ++other)
            users += memcmp(all[rank].device, all[other].device, sizeof all[rank].device) == 0;
        const uint32_t share = all[rank].multiprocessors / users;
        if (share < least) least = share;
    }
    return least > 1 ? least : 1;
}

hipcommResult_t agree_on_settings(Ranks* ranks, const Settings* settings, const Device* device, uint32_t* max_blocks) {
    hipcommWireAgreement all[HIPCOMM_MAX_RANKS], mine = {
        .staging_bytes = settings->staging_bytes,
        .timeout_us = (uint64_t)(settings->timeout * 1e6 + 0.5),
        .algorithm = (uint32_t)settings->algorithm,
        .check = settings->check,
        .share_devices = settings->share_devices,
        .version = HIPCOMM_VERSION_TEXT,
        .multiprocessors = (uint32_t)device->multiprocessors,
    };
    const size_t length = strcspn(device->arch, ":");
    memcpy(mine.arch, device->arch, length < sizeof mine.arch ? length : sizeof mine.arch);
    memcpy(mine.device, device->pci_bus_id, strlen(device->pci_bus_id));
    hipcommResult_t result = ranks_gather_equal(ranks, HIPCOMM_WIRE_TAG_AGREEMENT, &mine, sizeof mine, all);
    if (result == hipcommSuccess) result = compare(ranks, all);
    if (result == hipcommSuccess) *max_blocks = blocks_that_fit(ranks, all);
    return result;
}
