/* Jobs that have no launcher: ranks that are handed an id, those that have an all-gather of their own, and threads. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "errors.h"
#include "session.h"
#include "threads.h"

_Static_assert(sizeof(hipcommUniqueId) == sizeof(hipcommWireUniqueId), "an id has 128 bytes");

/* ---- servers of ids -------------------------------------------------------------------------------------------------*/

/* A server that this process has started and that no rank of it has taken yet. */
typedef struct Waiting {
    Server* server;
    Endpoint endpoint;
    struct Waiting* next;
} Waiting;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Waiting* waiting;

hipcommResult_t hipcommGetUniqueId(hipcommUniqueId* id) {
    if (!id) return set_error(NULL, hipcommInvalidArgument, "id is NULL");
    Settings settings;
    hipcommResult_t result = read_settings(NULL, &settings);
    Waiting* made = calloc(1, sizeof *made);
    if (result == hipcommSuccess && !made) result = set_error(NULL, hipcommOutOfMemory, "no memory for an id");
    if (result == hipcommSuccess) result = server_start(0, settings.join_timeout, &made->server);
    if (result != hipcommSuccess) {
        free(made);
        return result;
    }
    server_endpoint(made->server, &made->endpoint);
    hipcommWireUniqueId wire = {.port = (uint32_t)made->endpoint.port, .pid = (uint32_t)getpid()};
    memcpy(wire.magic, HIPCOMM_WIRE_ID_MAGIC, sizeof wire.magic);
    memcpy(wire.host, made->endpoint.host, strnlen(made->endpoint.host, sizeof wire.host));
    memcpy(wire.token, made->endpoint.token, strnlen(made->endpoint.token, sizeof wire.token));
    memcpy(id, &wire, sizeof wire);
    pthread_mutex_lock(&lock);
    made->next = waiting;
    waiting = made;
    pthread_mutex_unlock(&lock);
    return hipcommSuccess;
}

/* The server of an id, if this process has it and no rank has taken it. */
static Server* take_server(const Endpoint* endpoint) {
    pthread_mutex_lock(&lock);
    Waiting** place = &waiting;
    while (*place && ((*place)->endpoint.port != endpoint->port || strcmp((*place)->endpoint.token, endpoint->token) != 0))
        place = &(*place)->next;
    Waiting* const taken = *place;
    if (taken) *place = taken->next;
    pthread_mutex_unlock(&lock);
    Server* const server = taken ? taken->server : NULL;
    free(taken);
    return server;
}

/* ---- ranks that are handed an id ------------------------------------------------------------------------------------*/

static hipcommResult_t check_rank(int world, int rank) {
    if (world < 1 || world > HIPCOMM_MAX_RANKS)
        return set_error(NULL, hipcommInvalidArgument, "world size %d is not between 1 and %d", world, HIPCOMM_MAX_RANKS);
    if (rank < 0 || rank >= world)
        return set_error(NULL, hipcommInvalidArgument, "rank %d is not in a world of %d", rank, world);
    return hipcommSuccess;
}

/* Join with settings that have been read; their server is the id's. */
static hipcommResult_t join(hipcommComm_t* comm, int world, const hipcommUniqueId* id, int rank, Settings* settings) {
    hipcommWireUniqueId wire;
    memcpy(&wire, id, sizeof wire);
    if (memcmp(wire.magic, HIPCOMM_WIRE_ID_MAGIC, sizeof wire.magic) != 0)
        return set_error(NULL, hipcommInvalidArgument, "rank %d: the id is not one of hipcommGetUniqueId()", rank);
    Endpoint* endpoint = &settings->rendezvous;
    *endpoint = (Endpoint){.port = (int)wire.port};
    snprintf(endpoint->host, sizeof endpoint->host, "%.52s", wire.host);
    snprintf(endpoint->token, sizeof endpoint->token, "%.64s", wire.token);
    const Identity identity = {.rank = rank, .world = world, .local_rank = rank};
    return session_join(&identity, settings, take_server(endpoint), wire.pid, comm);
}

hipcommResult_t hipcommInitRank(hipcommComm_t* comm, int world, hipcommUniqueId id, int rank,
                                const hipcommSettings* given) {
    if (!comm) return no_comm();
    *comm = NULL;
    Settings settings;
    hipcommResult_t result = check_rank(world, rank);
    if (result == hipcommSuccess) result = read_settings(given, &settings);
    return result == hipcommSuccess ? join(comm, world, &id, rank, &settings) : result;
}

hipcommResult_t hipcommInitBootstrap(hipcommComm_t* comm, int world, int rank, const hipcommBootstrap* bootstrap,
                                     const hipcommSettings* given) {
    if (!comm) return no_comm();
    *comm = NULL;
    hipcommResult_t result = check_rank(world, rank);
    if (result != hipcommSuccess) return result;
    if (!bootstrap || bootstrap->size != sizeof *bootstrap || !bootstrap->all_gather)
        return set_error(NULL, hipcommInvalidArgument,
                         "bootstrap is NULL, or its all_gather, or its size is not sizeof(hipcommBootstrap)");
    /* a rank with a problem comes to the exchange all the same */
    hipcommUniqueId own = {{0}}, all[HIPCOMM_MAX_RANKS];
    Settings settings;
    if (rank == 0) result = hipcommGetUniqueId(&own);
    const KeptError first = keep_error(result);
    if (bootstrap->all_gather(bootstrap->context, &own, all, sizeof own) != 0)
        result = first_error(&first, set_error(NULL, hipcommPlatformError, "rank %d: the bootstrap's all_gather failed",
                                               rank));
    else
        result = first_error(&first, hipcommSuccess);
    if (result == hipcommSuccess) result = read_settings(given, &settings);
    return result == hipcommSuccess ? join(comm, world, &all[0], rank, &settings) : result;
}

/* ---- ranks as threads -----------------------------------------------------------------------------------------------*/

typedef struct ThreadRank {
    int rank, world;
    const hipcommUniqueId* id; /* NULL: destroy the communicator */
    Settings settings;
    hipcommComm_t comm;
    KeptError error;
    pthread_t thread;
} ThreadRank;

static void* run_rank(void* context) {
    ThreadRank* own = context;
    if (own->id)
        own->error = keep_error(join(&own->comm, own->world, own->id, own->rank, &own->settings));
    else
        own->error = keep_error(hipcommDestroy(own->comm));
    return NULL;
}

/* Run all of them at the same time; the first error that is not just the echo of another rank's. */
static hipcommResult_t run_all(ThreadRank* ranks, int count) {
    const KeptError* told = NULL;
    int started = 0, error = 0;
    while (started < count && !error) {
        error = start_thread(&ranks[started].thread, run_rank, &ranks[started]);
        started += !error;
    }
    for (int i = 0; i < started; ++i) pthread_join(ranks[i].thread, NULL);
    if (error) return set_error(NULL, hipcommPlatformError, "cannot start a rank's thread: %s", strerror(error));
    for (int i = 0; i < count; ++i) {
        const bool is_echo = ranks[i].error.result == hipcommPeerDied;
        if (ranks[i].error.result != hipcommSuccess && (!told || (told->result == hipcommPeerDied && !is_echo)))
            told = &ranks[i].error;
    }
    return told ? first_error(told, hipcommSuccess) : hipcommSuccess;
}

hipcommResult_t hipcommDestroyAll(hipcommComm_t* comms, int count) {
    if (!comms || count < 1 || count > HIPCOMM_MAX_RANKS)
        return set_error(NULL, hipcommInvalidArgument, "comms is NULL, or count %d is not between 1 and %d", count,
                         HIPCOMM_MAX_RANKS);
    ThreadRank* ranks = calloc((size_t)count, sizeof *ranks);
    if (!ranks) return set_error(NULL, hipcommOutOfMemory, "no memory for the ranks");
    for (int i = 0; i < count; ++i) ranks[i].comm = comms[i];
    const hipcommResult_t result = run_all(ranks, count);
    free(ranks);
    return result;
}

hipcommResult_t hipcommInitAll(hipcommComm_t* comms, int count, const int* devices, const hipcommSettings* given) {
    if (!comms || count < 1 || count > HIPCOMM_MAX_RANKS)
        return set_error(NULL, hipcommInvalidArgument, "comms is NULL, or count %d is not between 1 and %d", count,
                         HIPCOMM_MAX_RANKS);
    for (int i = 0; i < count; ++i) comms[i] = NULL;
    Settings settings;
    hipcommUniqueId id;
    hipcommResult_t result = read_settings(given, &settings);
    if (result == hipcommSuccess) result = hipcommGetUniqueId(&id);
    if (result != hipcommSuccess) return result;
    /* kernels of one process on one device may be queued one after the other, and would wait in vain */
    settings.share_devices = false;
    ThreadRank* ranks = calloc((size_t)count, sizeof *ranks);
    for (int i = 0; ranks && i < count; ++i) {
        ranks[i] = (ThreadRank){.rank = i, .world = count, .id = &id, .settings = settings};
        snprintf(ranks[i].settings.device, sizeof settings.device, "%d", devices ? devices[i] : i);
    }
    result = ranks ? run_all(ranks, count) : set_error(NULL, hipcommOutOfMemory, "no memory for the ranks");
    for (int i = 0; ranks && i < count; ++i) comms[i] = ranks[i].comm;
    free(ranks);
    if (result == hipcommSuccess) return result;
    const KeptError first = keep_error(result);
    result = first_error(&first, hipcommDestroyAll(comms, count));
    for (int i = 0; i < count; ++i) comms[i] = NULL;
    return result;
}
