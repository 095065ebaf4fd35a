#include "failure.h"
#include "group.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

hipcommResult_t hipcommCommPlan(hipcommComm_t comm, hipcommOperation_t operation, uint64_t bytes,
                                hipcommDataType_t dtype, hipcommRedOp_t op, int registered, hipcommPlan* plan) {
    if (!is_live(comm)) return no_comm();
    hipcommPlanRequest request = comm->request;
    request.operation = operation;
    request.bytes = bytes;
    request.dtype = dtype;
    request.op = op;
    request.registered = registered;
    const hipcommResult_t result = hipcommMakePlan(&request, plan);
    return result == hipcommSuccess ? result : set_error(comm, result, "rank %u: no such call to plan", comm->args.rank);
}

/* ---- layout --------------------------------------------------------------------------------------- */

hipcommResult_t hipcommGetLayout(const char* arch, uint64_t staging_bytes, hipcommLayout* layout) {
    if (!arch || !layout) return set_error(NULL, hipcommInvalidArgument, "arch or layout is NULL");
    if (staging_bytes > HIPCOMM_MAX_STAGING_BYTES)
        return set_error(NULL, hipcommInvalidArgument, "%llu bytes of staging memory are more than %llu",
                         (unsigned long long)staging_bytes, (unsigned long long)HIPCOMM_MAX_STAGING_BYTES);
    const TuningRow* row = tuning_row(arch);
    const uint64_t page = 2 * 1024 * 1024; /* hipIpcGetMemHandle refuses smaller uncached memory */
    const uint64_t control = HIPCOMM_LINES_OFFSET + 2ull * row->line_capacity * HIPCOMM_LINE_BYTES;
    layout->control_bytes = (control + page - 1) / page * page;
    layout->staging_bytes = ((staging_bytes ? staging_bytes : row->staging_bytes) + page - 1) / page * page +
                            HIPCOMM_CHANNEL_STAGING_BYTES;
    layout->status_bytes = 4096;
    layout->max_blocks = row->max_blocks;
    layout->staging_uncached = row->staging_uncached;
    return hipcommSuccess;
}

/* ---- life ----------------------------------------------------------------------------------------- */

static hipcommResult_t check_config(const hipcommConfig* c) {
    if (!c) return set_error(NULL, hipcommInvalidArgument, "config is NULL");
    if (c->world < 1 || c->world > HIPCOMM_MAX_RANKS)
        return set_error(NULL, hipcommInvalidArgument, "world size %d is not between 1 and %d", c->world,
                         HIPCOMM_MAX_RANKS);
    if (c->rank < 0 || c->rank >= c->world)
        return set_error(NULL, hipcommInvalidArgument, "rank %d is not in a world of %d", c->rank, c->world);
    if (!(c->timeout_seconds > 0 && c->timeout_seconds <= HIPCOMM_MAX_TIMEOUT_SECONDS))
        return set_error(NULL, hipcommInvalidArgument, "timeout of %g seconds is not positive and up to %g",
                         c->timeout_seconds, (double)HIPCOMM_MAX_TIMEOUT_SECONDS);
    if (!c->hip_library || !c->arch || !c->control || !c->staging || !c->status_host || !c->status_device ||
        !c->functions)
        return set_error(NULL, hipcommInvalidArgument, "a pointer in the config is NULL");
    if ((int)c->algorithm < 0 || c->algorithm >= hipcommNumAlgorithms)
        return set_error(NULL, hipcommInvalidArgument, "algorithm %d is not known", (int)c->algorithm);
    return hipcommSuccess;
}

/* Write the number that launches begin with: as the epoch, and as that of the first message of every
 * channel, before which everything has been taken. */
static hipError_t number_launches(hipcommComm_t comm, char* control, uint32_t first) {
    uint32_t epochs[HIPCOMM_MAX_BLOCKS];
    for (uint32_t i = 0; i < HIPCOMM_MAX_BLOCKS; ++i) epochs[i] = first;
    hipError_t error = comm->hip.Memcpy(control, epochs, sizeof epochs, hipMemcpyHostToDevice);
    uint32_t numbers[2 * HIPCOMM_CHANNEL_WORDS];
    for (uint32_t i = 0; i < 2 * HIPCOMM_CHANNEL_WORDS; ++i) numbers[i] = first;
    if (error == hipSuccess)
        error = comm->hip.Memcpy(control + HIPCOMM_CHANNEL_NUMBERS_OFFSET, numbers, sizeof numbers,
                                 hipMemcpyHostToDevice);
    uint64_t taken[HIPCOMM_CHANNEL_WORDS];
    for (uint32_t i = 0; i < HIPCOMM_CHANNEL_WORDS; ++i)
        taken[i] = (uint64_t)(uint32_t)(first - 1) << 32 | HIPCOMM_CHANNEL_DONE;
    if (error == hipSuccess)
        error = comm->hip.Memcpy(control + HIPCOMM_CHANNEL_TAKEN_OFFSET, taken, sizeof taken,
                                 hipMemcpyHostToDevice);
    return error;
}

/* Everything that needs HIP calls; the object is filled in far enough to be destroyed on a failure. */
static hipcommResult_t prepare(hipcommComm_t comm, const hipcommConfig* config, const hipcommLayout* layout) {
    hipError_t error = comm->hip.SetDevice(config->device);
    if (error != hipSuccess) return hip_error(comm, "hipSetDevice", error);
    int kilohertz = 0;
    error = comm->hip.DeviceGetAttribute(&kilohertz, hipDeviceAttributeWallClockRate, config->device);
    if (error != hipSuccess) return hip_error(comm, "hipDeviceGetAttribute(WallClockRate)", error);
    comm->ticks_per_second = kilohertz * 1e3;
    comm->args.timeout_ticks = (uint64_t)(config->timeout_seconds * comm->ticks_per_second);

    int runs_side_by_side = 0;
    error = comm->hip.DeviceGetAttribute(&runs_side_by_side, hipDeviceAttributeConcurrentKernels, config->device);
    if (error != hipSuccess) return hip_error(comm, "hipDeviceGetAttribute(ConcurrentKernels)", error);
    comm->runs_side_by_side = runs_side_by_side != 0;

    error = comm->hip.EventCreateWithFlags(&comm->order.end, hipEventDisableTiming);
    if (error != hipSuccess) return hip_error(comm, "hipEventCreateWithFlags", error);

    memset(comm->status, 0, sizeof *comm->status);
    error = comm->hip.Memset(config->control[config->rank], 0, layout->control_bytes);
    if (error != hipSuccess) return hip_error(comm, "hipMemset of the control slab", error);
    error = number_launches(comm, config->control[config->rank],
                            config->first_epoch ? config->first_epoch : HIPCOMM_FIRST_EPOCH);
    if (error != hipSuccess) return hip_error(comm, "hipMemcpy of the epochs", error);
    error = comm->hip.StreamSynchronize(NULL); /* a memset of device memory is asynchronous */
    if (error != hipSuccess) return hip_error(comm, "hipStreamSynchronize", error);
    return hipcommSuccess;
}

hipcommResult_t hipcommCommCreate(const hipcommConfig* config, hipcommComm_t* out) {
    if (!out) return set_error(NULL, hipcommInvalidArgument, "comm is NULL");
    *out = NULL;
    hipcommResult_t result = check_config(config);
    if (result != hipcommSuccess) return result;
    hipcommLayout layout;
    result = hipcommGetLayout(config->arch, config->staging_bytes, &layout);
    if (result != hipcommSuccess) return result;
    const uint64_t staging_bytes = layout.staging_bytes - HIPCOMM_CHANNEL_STAGING_BYTES; /* of collectives */

    hipcommComm_t comm = calloc(1, sizeof *comm);
    if (!comm) return set_error(NULL, hipcommOutOfMemory, "no memory for the communicator");
    comm->functions = calloc((size_t)hipcommKernelCount(), sizeof *comm->functions);
    if (!comm->functions || !handle_begins(comm)) {
        free(comm->functions);
        free(comm);
        return set_error(NULL, hipcommOutOfMemory, "no memory for the kernel table");
    }
    memcpy(comm->functions, config->functions, (size_t)hipcommKernelCount() * sizeof *comm->functions);
    snprintf(comm->arch, sizeof comm->arch, "%s", config->arch);
    comm->device = config->device;
    comm->row = tuning_row(comm->arch);
    comm->status = config->status_host;
    comm->failed_peer = -1;
    comm->check = config->check != 0;
    comm->request = (hipcommPlanRequest){
        .world = config->world,
        .arch = comm->arch,
        .max_blocks = config->max_blocks,
        .algorithm = config->algorithm,
        .staging_bytes = staging_bytes,
    };
    comm->args = (hipcommKernelArgs){
        .own_control = config->control[config->rank],
        .rank = (uint32_t)config->rank,
        .world = (uint32_t)config->world,
        .epoch_slots = layout.max_blocks,
        .line_capacity = comm->row->line_capacity,
        .staging_bytes = staging_bytes / 2,
        .status = config->status_device,
    };
    for (int rank = 0; rank < config->world; ++rank) {
        comm->args.control[rank] = config->control[rank];
        comm->args.staging[rank] = config->staging[rank];
    }

    const char* missing = hip_api_open(&comm->hip, config->hip_library);
    result = missing ? set_error(comm, hipcommPlatformError, "cannot use %s: %s", config->hip_library, missing)
                     : prepare(comm, config, &layout);
    if (result != hipcommSuccess) {
        set_error(NULL, result, "%s", comm->error);
        hipcommCommDestroy(comm);
        return result;
    }
    *out = comm;
    return hipcommSuccess;
}

hipcommResult_t hipcommCommDestroy(hipcommComm_t comm) {
    if (!comm) return hipcommSuccess;
    if (!is_live(comm)) return no_comm();
    hipcommResult_t result = hipcommSuccess;
    if (comm->order.end) {
        const hipError_t error = comm->hip.EventDestroy(comm->order.end);
        if (error != hipSuccess) {
            hip_error(comm, "hipEventDestroy", error);
            result = set_error(NULL, hipcommPlatformError, "%s", comm->error);
        }
    }
    if (comm->hip.library) {
        const hipError_t error = free_lanes(comm);
        if (error != hipSuccess) {
            hip_error(comm, "freeing the streams of groups: hipStreamDestroy", error);
            result = set_error(NULL, hipcommPlatformError, "%s", comm->error);
        }
    }
    hip_api_close(&comm->hip);
    free(comm->functions);
    handle_ends(comm);
    return result;
}
