#include "session.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agreement.h"
#include "errors.h"

#define CLOSE_SECONDS 10.0 /* at least; peers that are still busy keep this rank's memory mapped */

static const char has_failed_here[1] = {1}; /* given at the close by a rank on which the communicator has failed */

/* ---- failure -------------------------------------------------------------------------------------------------------*/

/* The next two are called by the client's thread. */
static void note_lost_peer(void* context, int peer, const char* reason, hipcommResult_t result) {
    Session* session = context;
    session->has_failed = true;
    hipcommCommAbort(session->comm, result, peer < 0 ? -1 : number_in_group(&session->ranks, peer), reason);
}

static void note_leaving_peer(void* context, int peer, const char* communicator) {
    Session* session = context;
    const int number = number_in_group(&session->ranks, peer);
    if (number >= 0 && (!*communicator || strcmp(communicator, session->ranks.name) == 0))
        hipcommCommPeerLeft(session->comm, number);
}

static void describe_waiting(void* context, char* text, size_t size) {
    const Session* session = context;
    char what[256];
    text[0] = 0;
    if (hipcommCommDescribeWait(session->comm, what, sizeof what) == hipcommSuccess && what[0])
        snprintf(text, size, "%s: waiting in %s", session->ranks.name, what);
}

/* The core has found a failure in a call: closing must not wait for the others. */
static void note_failed_call(void* context, hipcommResult_t result, int peer, const char* message) {
    Session* session = context;
    Ranks* ranks = &session->ranks;
    char own[32], text[1024]; /* a reason to abort is not a wait */
    snprintf(own, sizeof own, "rank %u: ", ranks->members[ranks->rank]);
    snprintf(text, sizeof text, "%s%s", strncmp(message, own, strlen(own)) == 0 ? "" : own, message);
    client_waiting(ranks->client, text);
    if (session->has_failed || client_has_failed(ranks->client)) return;
    session->has_failed = true;
    if (result != hipcommPeerDied) return;
    /* a rank was missed that makes no more calls, and those who wait for this one would not hear of it */
    if (peer >= 0 && client_has_left(ranks->client, (int)ranks->members[peer]))
        client_abort(ranks->client, message, hipcommPeerDied);
    else /* the job goes on */
        client_closing(ranks->client, ranks->name);
}

void session_abort(Session* session, const char* reason, hipcommResult_t result) {
    session->has_failed = true;
    hipcommCommAbort(session->comm, hipcommPeerDied, session->ranks.rank, reason);
    client_abort(session->ranks.client, reason, result);
}

/* ---- the beginning -------------------------------------------------------------------------------------------------*/

static hipcommResult_t create_core(Session* session, const hipcommLayout* layout, uint32_t max_blocks) {
    void* const* functions;
    hipcommResult_t result = make_status_page(layout->status_bytes, &session->status);
    if (result == hipcommSuccess)
        result = find_kernels(session->platform, &session->device, &functions);
    if (result != hipcommSuccess) return prefix_error(result, "rank %d: ", session->ranks.rank);
    const hipcommConfig config = {
        .rank = session->ranks.rank,
        .world = session->ranks.world,
        .hip_library = session->platform->library,
        .arch = session->device.arch,
        .device = session->device.ordinal,
        .max_blocks = max_blocks,
        .algorithm = session->settings.algorithm,
        .timeout_seconds = session->settings.timeout,
        .staging_bytes = session->settings.staging_bytes,
        .check = session->settings.check,
        .control = session->slabs.peers.addresses[0],
        .staging = session->slabs.peers.addresses[1],
        .status_host = session->status.host,
        .status_device = session->status.device,
        .functions = functions,
    };
    return hipcommCommCreate(&config, &session->comm);
}

/* Whose death it is if a server that another rank's process hosts is lost. */
static void find_host(Session* session, uint32_t host_pid) {
    for (int rank = 0; host_pid && rank < session->ranks.world; ++rank)
        if (session->slabs.peers.pids[rank] == host_pid) {
            client_set_server_rank(session->ranks.client, rank);
            return;
        }
}

static hipcommResult_t set_up(Session* session, uint32_t host_pid) {
    Ranks* ranks = &session->ranks;
    uint32_t max_blocks;
    hipcommLayout layout;
    hipcommResult_t result = agree_on_settings(ranks, &session->settings, &session->device, &max_blocks);
    if (result == hipcommSuccess)
        result = hipcommGetLayout(session->device.arch, session->settings.staging_bytes, &layout);
    if (result == hipcommSuccess) result = make_slabs(ranks, &layout, &session->slabs);
    if (result == hipcommSuccess) find_host(session, host_pid);
    if (result == hipcommSuccess) result = create_core(session, &layout, max_blocks);
    if (result != hipcommSuccess) return result;
    session->heap = (Heap){.ranks = ranks, .comm = session->comm};
    session->registrations = (Registrations){.ranks = ranks, .comm = session->comm};
    /* a peer's first kernel may write here as soon as this returns: all slabs are ready */
    result = ranks_gather_equal(ranks, HIPCOMM_WIRE_TAG_READY, NULL, 0, NULL);
    if (result != hipcommSuccess) return result;
    session->comm->session = session;
    session->comm->on_failure = note_failed_call;
    session->listener = (Listener){note_lost_peer, note_leaving_peer, describe_waiting, session, NULL};
    session->is_listening = true;
    client_listen(ranks->client, &session->listener);
    return hipcommSuccess;
}

/* Undo what has been done, peers' mappings first; own memory only when all have unmapped it. After a failure a peer may
 * still write to it: it is left to the end of the process. */
static hipcommResult_t take_down(Session* session) {
    hipcommResult_t result = hipcommSuccess;
    if (session->is_listening) client_unlisten(session->ranks.client, &session->listener);
    session->is_listening = false;
    KeptError first = keep_error(hipcommSuccess);
    if (!session->has_failed) {
        first = keep_error(first_error(&first, heap_close_peers(&session->heap)));
        first = keep_error(first_error(&first, close_registrations(&session->registrations)));
        first = keep_error(first_error(&first, close_peers(&session->slabs.peers)));
        if (!client_has_failed(session->ranks.client)) {
            result = ranks_gather_equal(&session->ranks, HIPCOMM_WIRE_TAG_UNMAPPED, NULL, 0, NULL);
            first = keep_error(first_error(&first, result));
            if (result == hipcommSuccess) {
                first = keep_error(first_error(&first, free_slabs(&session->slabs)));
                first = keep_error(first_error(&first, heap_free_all(&session->heap)));
            }
        }
    }
    heap_forget(&session->heap);
    forget_registrations(&session->registrations);
    return first_error(&first, hipcommSuccess);
}

/* What a session that could not be set up leaves: the others hear of it. */
static hipcommResult_t give_up(Session* session, hipcommResult_t result) {
    const KeptError first = keep_error(result);
    client_abort(session->ranks.client, first.message, result);
    take_down(session);
    client_leave(session->ranks.client, false);
    session->is_over = true;
    session_destroy(session);
    return first_error(&first, result);
}

hipcommResult_t session_join(const Identity* identity, const Settings* settings, Server* hosted, uint32_t host_pid,
                             hipcommComm_t* comm) {
    Session* session = calloc(1, sizeof *session);
    if (!session) {
        if (hosted) server_end(hosted, 0);
        return set_error(NULL, hipcommOutOfMemory, "no memory for the communicator");
    }
    session->settings = *settings;
    /* first: a rank that cannot even find its device can then say so to the others */
    Client* client;
    hipcommResult_t result = client_connect(identity, settings, hosted, &client);
    if (result != hipcommSuccess) {
        free(session);
        return result;
    }
    client_enter(client);
    ranks_of_job(&session->ranks, client, settings->join_timeout);
    result = choose_platform(settings->platform, &session->platform);
    if (result == hipcommSuccess) result = open_device(settings, identity->local_rank, &session->device);
    if (result != hipcommSuccess) prefix_error(result, "rank %d: ", identity->rank);
    if (result == hipcommSuccess) result = set_up(session, host_pid);
    if (result != hipcommSuccess) return give_up(session, result);
    *comm = session->comm;
    return hipcommSuccess;
}

/* ---- parts ---------------------------------------------------------------------------------------------------------*/

typedef struct Member {
    int64_t key;
    int rank;
} Member;

static int compare_members(const void* left, const void* right) {
    const Member *a = left, *b = right;
    if (a->key != b->key) return a->key < b->key ? -1 : 1;
    return a->rank - b->rank;
}

hipcommResult_t session_split(Session* session, bool takes_part, int64_t color, int64_t key, hipcommComm_t* comm) {
    Ranks* ranks = &session->ranks;
    hipcommWireSplit all[HIPCOMM_MAX_RANKS];
    const hipcommWireSplit mine = {takes_part ? color : 0, takes_part ? key : 0, takes_part};
    hipcommResult_t result = ranks_gather_equal(ranks, HIPCOMM_WIRE_TAG_SPLIT, &mine, sizeof mine, all);
    ++ranks->splits;
    if (result != hipcommSuccess || !takes_part) return result;
    Member members[HIPCOMM_MAX_RANKS];
    int numbers[HIPCOMM_MAX_RANKS], count = 0;
    for (int rank = 0; rank < ranks->world; ++rank)
        if (all[rank].takes_part && all[rank].color == color) members[count++] = (Member){all[rank].key, rank};
    qsort(members, (size_t)count, sizeof members[0], compare_members);
    for (int i = 0; i < count; ++i) numbers[i] = members[i].rank;
    Session* part = calloc(1, sizeof *part);
    if (!part) return set_error(NULL, hipcommOutOfMemory, "rank %d: no memory for the communicator", ranks->rank);
    part->settings = session->settings;
    part->platform = session->platform;
    part->device = session->device;
    ranks_of_part(&part->ranks, ranks, numbers, count);
    client_enter(part->ranks.client);
    result = set_up(part, 0);
    if (result != hipcommSuccess) return give_up(part, result);
    *comm = part->comm;
    return hipcommSuccess;
}

/* ---- the end -------------------------------------------------------------------------------------------------------*/

/* Wait for the device, then for the others: from then on no rank's kernels run. */
static hipcommResult_t meet_for_the_last_time(Session* session) {
    Ranks* ranks = &session->ranks;
    const double patience = fmax(session->settings.timeout, CLOSE_SECONDS);
    if (session->has_failed) {
        ranks_give(ranks, HIPCOMM_WIRE_TAG_CLOSE, has_failed_here, sizeof has_failed_here, patience);
        return hipcommSuccess;
    }
    hipcommResult_t result = HIP_CALL(DeviceSynchronize);
    if (result != hipcommSuccess) return result;
    client_closing(ranks->client, ranks->name);
    Gathered gathered;
    result = ranks_gather(ranks, HIPCOMM_WIRE_TAG_CLOSE, NULL, 0, patience, &gathered);
    /* a rank that has failed does not say when it has unmapped its memory */
    for (int peer = 0; peer < gathered.parts; ++peer)
        if (gathered.size[peer] > 0) session->has_failed = true;
    free(gathered.memory);
    return result;
}

hipcommResult_t session_end(Session* session) {
    int before;
    if (session->is_over) return hipcommSuccess;
    session->is_over = true;
    /* a failure that no call has reported yet; from now on the core has nobody to tell */
    if (hipcommCommGetAsyncError(session->comm) != hipcommSuccess) session->has_failed = true;
    session->comm->on_failure = NULL;
    hipcommResult_t result = enter_device(&session->device, &before);
    if (result == hipcommSuccess) {
        result = meet_for_the_last_time(session);
        if (result != hipcommSuccess) {
            session->has_failed = true;
            prefix_error(result, "rank %d: closing: ", session->ranks.rank);
        }
        const KeptError first = keep_error(result);
        result = leave_device(before, first_error(&first, take_down(session)));
    }
    const KeptError first = keep_error(result);
    client_leave(session->ranks.client, !session->has_failed);
    session->ranks.client = NULL;
    hipcommCommAbort(session->comm, hipcommInvalidArgument, -1, "the communicator is finalized");
    return first_error(&first, hipcommSuccess);
}

hipcommResult_t session_destroy(Session* session) {
    KeptError first = keep_error(session->comm ? hipcommCommDestroy(session->comm) : hipcommSuccess);
    /* after a failure it stays: kernels that have not left may still look at it */
    if (!session->has_failed) first = keep_error(first_error(&first, free_status_page(&session->status)));
    free(session);
    return first_error(&first, hipcommSuccess);
}
