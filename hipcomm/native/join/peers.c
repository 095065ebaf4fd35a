#include "peers.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../failure.h"
#include "digest.h"
#include "errors.h"
#include "mappings.h"

#define PATTERN_BYTES sizeof(hipcommWirePattern)

/* ---- this process --------------------------------------------------------------------------------------------------*/

/* Random bytes that, with the process id, tell ranks that are threads of one process. */
static char process[sizeof(((hipcommWireExport*)0)->process)];
static int draw_error;
static void draw_process(void) { draw_error = draw_random(process, sizeof process) ? 0 : 1; }

static hipcommResult_t know_process(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, draw_process);
    return draw_error ? set_error(NULL, hipcommPlatformError, "the system has no random bytes") : hipcommSuccess;
}

/* ---- device memory -------------------------------------------------------------------------------------------------*/

hipcommResult_t find_allocation(const void* address, char** base, size_t* bytes) {
    return HIP_CALL(MemGetAddressRange, (hipDeviceptr_t*)base, bytes, (hipDeviceptr_t)address);
}

static hipcommResult_t read_memory(const void* address, void* data, size_t bytes) {
    return HIP_CALL(Memcpy, data, address, bytes, hipMemcpyDeviceToHost);
}

static hipcommResult_t write_memory(void* address, const void* data, size_t bytes) {
    const hipcommResult_t result = HIP_CALL(Memcpy, address, data, bytes, hipMemcpyHostToDevice);
    /* from memory that is not pinned it may return before: a peer or another stream could read what was there */
    return result == hipcommSuccess ? HIP_CALL(StreamSynchronize, NULL) : result;
}

/* ---- export and open -----------------------------------------------------------------------------------------------*/

static hipcommResult_t export(const Ranks* ranks, const Area* area, hipcommWireExport* out) {
    hipIpcMemHandle_t handle = {{0}};
    char* base = area->address;
    size_t bytes;
    int device;
    hipcommResult_t result = HIP_CALL(GetDevice, &device);
    if (result == hipcommSuccess) result = know_process();
    if (ranks->world > 1) {
        if (result == hipcommSuccess) result = find_allocation(area->address, &base, &bytes);
        if (result == hipcommSuccess) result = HIP_CALL(IpcGetMemHandle, &handle, base);
    }
    if (result != hipcommSuccess) return prefix_error(result, "rank %d: exporting its %s: ", ranks->rank, area->name);
    *out = (hipcommWireExport){
        .pid = (uint32_t)getpid(),
        .device = device,
        .address = (uintptr_t)area->address,
        .nbytes = area->bytes,
        .offset = (uint64_t)(area->address - base),
    };
    memcpy(out->process, process, sizeof out->process);
    memcpy(out->handle, &handle, sizeof out->handle);
    return hipcommSuccess;
}

static hipcommResult_t enable_peer_access(int device) {
    int current;
    const hipcommResult_t result = HIP_CALL(GetDevice, &current);
    if (result != hipcommSuccess || device == current) return result;
    const hipError_t error = hip->DeviceEnablePeerAccess(device, 0);
    if (error == hipErrorPeerAccessAlreadyEnabled) return hipcommSuccess;
    return hip_check("hipDeviceEnablePeerAccess", error);
}

static hipcommResult_t open_one(const Area* area, const hipcommWireExport* theirs, PeerMemory* memory, void** address) {
    if (theirs->nbytes != area->bytes)
        return set_error(NULL, hipcommInvalidArgument, "it has %llu bytes, and %llu here",
                         (unsigned long long)theirs->nbytes, (unsigned long long)area->bytes);
    if (theirs->pid == (uint32_t)getpid() && memcmp(theirs->process, process, sizeof process) == 0) {
        *address = (void*)(uintptr_t)theirs->address;
        return enable_peer_access(theirs->device);
    }
    hipIpcMemHandle_t handle;
    char* base;
    memcpy(&handle, theirs->handle, sizeof handle);
    const hipcommResult_t result = open_mapping(&handle, &base);
    if (result != hipcommSuccess) return result;
    memory->handles[memory->opened++] = handle;
    *address = base + theirs->offset;
    return hipcommSuccess;
}

/* exports: by rank, and for each by area */
static hipcommResult_t open_all(const Ranks* ranks, const Area* areas, int count, const hipcommWireExport* exports,
                                PeerMemory* memory) {
    for (int i = 0; i < ranks->world * count; ++i) {
        const int peer = i / count, area = i % count;
        const hipcommResult_t result =
            open_one(&areas[area], &exports[i], memory, &memory->addresses[area][peer]);
        if (result != hipcommSuccess)
            return prefix_error(result, "rank %d: opening the %s of rank %d: ", ranks->rank, areas[area].name, peer);
        memory->pids[peer] = exports[i].pid;
    }
    return hipcommSuccess;
}

hipcommResult_t close_peers(PeerMemory* memory) {
    hipcommResult_t result = hipcommSuccess;
    while (memory->opened > 0) {
        const hipcommResult_t closed = close_mapping(&memory->handles[--memory->opened]);
        if (result == hipcommSuccess) result = closed;
    }
    return result;
}

/* ---- verification --------------------------------------------------------------------------------------------------*/

static size_t pattern_bytes(const Area* area) { return area->bytes < PATTERN_BYTES ? area->bytes : PATTERN_BYTES; }

/* *saved: how many areas have been overwritten. */
static hipcommResult_t write_patterns(const Ranks* ranks, const Area* areas, int count,
                                      const hipcommWirePattern* patterns, hipcommWirePattern* before, int* saved) {
    for (int i = 0; i < count; ++i) {
        hipcommResult_t result = read_memory(areas[i].address, &before[i], pattern_bytes(&areas[i]));
        if (result == hipcommSuccess) {
            *saved = i + 1;
            result = write_memory(areas[i].address, &patterns[i], pattern_bytes(&areas[i]));
        }
        if (result != hipcommSuccess)
            return prefix_error(result, "rank %d: writing its %s: ", ranks->rank, areas[i].name);
    }
    return hipcommSuccess;
}

static hipcommResult_t read_patterns(const Ranks* ranks, const Area* areas, int count,
                                     const hipcommWirePattern* patterns, const PeerMemory* memory) {
    for (int i = 0; i < ranks->world * count; ++i) {
        const int peer = i / count, area = i % count;
        hipcommWirePattern seen;
        const size_t bytes = pattern_bytes(&areas[area]);
        const hipcommResult_t result = read_memory(memory->addresses[area][peer], &seen, bytes);
        if (result != hipcommSuccess)
            return prefix_error(result, "rank %d: reading the %s of rank %d: ", ranks->rank, areas[area].name, peer);
        if (memcmp(&seen, &patterns[i], bytes) != 0)
            return set_error(NULL, hipcommPlatformError, "rank %d: the mapping of rank %d's %s shows other memory",
                             ranks->rank, peer, areas[area].name);
    }
    return hipcommSuccess;
}

static hipcommResult_t verify(Ranks* ranks, const char* tag, const Area* areas, int count, hipcommResult_t problem,
                              const PeerMemory* memory) {
    hipcommWirePattern own[MAX_AREAS], before[MAX_AREAS], all[MAX_AREAS * HIPCOMM_MAX_RANKS];
    char step[32];
    int saved = 0;
    if (problem == hipcommSuccess && !draw_random(own, sizeof own))
        problem = set_error(NULL, hipcommPlatformError, "rank %d: the system has no random bytes", ranks->rank);
    if (problem == hipcommSuccess) problem = write_patterns(ranks, areas, count, own, before, &saved);
    snprintf(step, sizeof step, "%s/" HIPCOMM_WIRE_STEP_PATTERNS, tag);
    hipcommResult_t result = ranks_agree_equal(ranks, step, problem, own, (size_t)count * sizeof own[0], all);
    if (result == hipcommSuccess) {
        problem = read_patterns(ranks, areas, count, all, memory);
        snprintf(step, sizeof step, "%s/" HIPCOMM_WIRE_STEP_VERIFIED, tag);
        result = ranks_agree_equal(ranks, step, problem, NULL, 0, NULL);
    }
    for (int i = 0; i < saved; ++i) {
        const KeptError first = keep_error(result);
        result = first_error(&first, write_memory(areas[i].address, &before[i], pattern_bytes(&areas[i])));
    }
    return result;
}

hipcommResult_t share_memory(Ranks* ranks, const char* tag, const Area* areas, int count, hipcommResult_t problem,
                             PeerMemory* memory) {
    hipcommWireExport own[MAX_AREAS], all[MAX_AREAS * HIPCOMM_MAX_RANKS];
    char step[32];
    *memory = (PeerMemory){.opened = 0};
    for (int i = 0; i < count && problem == hipcommSuccess; ++i) problem = export(ranks, &areas[i], &own[i]);
    snprintf(step, sizeof step, "%s/" HIPCOMM_WIRE_STEP_HANDLES, tag);
    hipcommResult_t result = ranks_agree_equal(ranks, step, problem, own, (size_t)count * sizeof own[0], all);
    if (result == hipcommSuccess) {
        problem = open_all(ranks, areas, count, all, memory);
        result = verify(ranks, tag, areas, count, problem, memory);
    }
    if (result == hipcommSuccess) return result;
    const KeptError first = keep_error(result);
    return first_error(&first, close_peers(memory));
}
