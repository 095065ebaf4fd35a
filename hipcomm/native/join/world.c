#include "world.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hipcomm.h"
#include "sockets.h"

void world_begin(World* world, int size, SendFunction send, void* context) {
    *world = (World){.size = size, .send = send, .context = context, .join_deadline = INFINITY};
}

static void free_gathering(Gathering* gathering) {
    for (int i = 0; i < gathering->group_size; ++i) free_bytes(&gathering->part[i]);
    free(gathering);
}

static void free_gatherings(World* world) {
    while (world->gatherings) {
        Gathering* next = world->gatherings->next;
        free_gathering(world->gatherings);
        world->gatherings = next;
    }
}

void world_end(World* world) { free_gatherings(world); }

/* ---- words and frames ----------------------------------------------------------------------------------------------*/

static bool has(uint32_t ranks, int rank) { return ranks >> rank & 1; }
static uint32_t everybody(const World* world) { return (uint32_t)((1ull << world->size) - 1); }

/* "rank 3", "ranks 0, 2" or "no rank" */
static void name_ranks(uint32_t ranks, char* text, size_t size) {
    size_t used = (size_t)snprintf(text, size, !ranks ? "no rank" : ranks & (ranks - 1) ? "ranks " : "rank ");
    const char* separator = "";
    for (int rank = 0; rank < HIPCOMM_MAX_RANKS && used < size; ++rank) {
        if (!has(ranks, rank)) continue;
        used += (size_t)snprintf(text + used, size - used, "%s%d", separator, rank);
        separator = ", ";
    }
}

/* A frame of a fixed part and a text. */
static void build(Bytes* frame, hipcommWireType type, const void* fixed, size_t size, const char* text) {
    begin_frame(frame, type);
    append(frame, fixed, size);
    append_text(frame, text);
    end_frame(frame);
}

static void send_to(World* world, int rank, const Bytes* frame) {
    if (has(world->members, rank)) world->send(world->context, rank, frame);
}

static void tell_others(World* world, hipcommWireType type, uint32_t peer, uint32_t result, const char* text) {
    const hipcommWirePeer fixed = {peer, result};
    Bytes frame = {0};
    build(&frame, type, &fixed, sizeof fixed, text);
    for (int rank = 0; rank < world->size; ++rank)
        if (rank != (int)peer) send_to(world, rank, &frame);
    free_bytes(&frame);
}

/* ---- joining -------------------------------------------------------------------------------------------------------*/

uint32_t world_refusal(World* world, const hipcommWireJoin* join, char* text, size_t size) {
    if (world->size ? join->world_size != (uint32_t)world->size
                    : join->world_size < 1 || join->world_size > HIPCOMM_MAX_RANKS) {
        snprintf(text, size, "rank %u asked for a world of %u, this job has %d ranks", join->rank, join->world_size,
                 world->size ? world->size : HIPCOMM_MAX_RANKS);
        return HIPCOMM_WIRE_REFUSAL_WRONG_WORLD_SIZE;
    }
    if (join->rank >= join->world_size) {
        snprintf(text, size, "rank %u of %u does not exist", join->rank, join->world_size);
        return HIPCOMM_WIRE_REFUSAL_RANK_OUT_OF_RANGE;
    }
    if (world->has_formed) {
        snprintf(text, size, "all %d ranks of this job have come already", world->size);
        return HIPCOMM_WIRE_REFUSAL_WORLD_FULL;
    }
    if (has(world->members, (int)join->rank)) {
        world->rivals[join->rank] = join->pid;
        snprintf(text, size, "rank %u has joined already, as process %u", join->rank, world->pids[join->rank]);
        return HIPCOMM_WIRE_REFUSAL_DUPLICATE_RANK;
    }
    return 0;
}

void world_join(World* world, const hipcommWireJoin* join, double deadline) {
    Bytes accepted = {0};
    world->size = (int)join->world_size;
    world->members |= 1u << join->rank;
    world->pids[join->rank] = join->pid;
    world->join_deadline = fmin(world->join_deadline, deadline);
    build(&accepted, HIPCOMM_WIRE_TYPE_ACCEPTED, NULL, 0, "");
    send_to(world, (int)join->rank, &accepted);
    free_bytes(&accepted);
    if (world->members != everybody(world)) return;
    world->has_formed = true;
    world->join_deadline = INFINITY;
    const hipcommWireWelcome fixed = {(uint32_t)world->size};
    Bytes welcome = {0};
    build(&welcome, HIPCOMM_WIRE_TYPE_WELCOME, &fixed, sizeof fixed, "");
    for (int rank = 0; rank < world->size; ++rank) send_to(world, rank, &welcome);
    free_bytes(&welcome);
}

void world_dissolve(World* world, uint32_t code, uint32_t peer, const char* why) {
    char came[96], missing[96], text[768];
    name_ranks(world->members, came, sizeof came);
    name_ranks(everybody(world) & ~world->members, missing, sizeof missing);
    size_t used = (size_t)snprintf(text, sizeof text, "%s: %s of %d came; %s did not", why, came, world->size, missing);
    for (int rank = 0; rank < world->size && used < sizeof text; ++rank)
        if (has(world->members, rank) && world->rivals[rank])
            used += (size_t)snprintf(text + used, sizeof text - used, "; rank %d is process %u, and %u claimed it too",
                                     rank, world->pids[rank], world->rivals[rank]);
    const hipcommWireRefused fixed = {code, peer};
    Bytes frame = {0};
    build(&frame, HIPCOMM_WIRE_TYPE_REFUSED, &fixed, sizeof fixed, text);
    for (int rank = 0; rank < world->size; ++rank) send_to(world, rank, &frame);
    free_bytes(&frame);
    world->members = 0;
    world->join_deadline = INFINITY;
}

/* ---- all-gather ----------------------------------------------------------------------------------------------------*/

static uint32_t missing_ranks(const Gathering* gathering) {
    uint32_t missing = 0;
    for (int i = 0; i < gathering->group_size; ++i)
        if (!gathering->has_come[i]) missing |= 1u << gathering->group[i];
    return missing;
}

static void build_result(const Gathering* gathering, uint32_t request, Bytes* frame) {
    const hipcommWireResult fixed = {request, (uint32_t)gathering->group_size};
    begin_frame(frame, HIPCOMM_WIRE_TYPE_RESULT);
    append(frame, &fixed, sizeof fixed);
    for (int i = 0; i < gathering->group_size; ++i) {
        const uint32_t length = (uint32_t)gathering->part[i].size;
        append(frame, &length, sizeof length);
    }
    for (int i = 0; i < gathering->group_size; ++i) append(frame, gathering->part[i].data, gathering->part[i].size);
    end_frame(frame);
}

static void build_failed(uint32_t request, uint32_t code, uint32_t peer, const char* text, Bytes* frame) {
    const hipcommWireFailed fixed = {request, code, peer};
    build(frame, HIPCOMM_WIRE_TYPE_FAILED, &fixed, sizeof fixed, text);
}

static void answer(World* world, Gathering* gathering) {
    for (int i = 0; i < gathering->group_size; ++i) {
        if (!gathering->is_waiting[i]) continue;
        const int rank = (int)gathering->group[i];
        Bytes frame = {0};
        if (gathering->failure)
            build_failed(gathering->request[i], gathering->failure, gathering->peer, gathering->text, &frame);
        else
            build_result(gathering, gathering->request[i], &frame);
        --world->pending[rank];
        gathering->is_waiting[i] = false;
        send_to(world, rank, &frame);
        free_bytes(&frame);
    }
}

/* Answer what can be answered now. A failed all-gather is kept until its last rank has heard of it: all fail, or none.
 * True: it is over, and freed. */
static bool settle(World* world, Gathering* gathering) {
    const uint32_t missing = missing_ranks(gathering), gone = missing & world->left;
    if (!gathering->failure && gone) {
        char names[96];
        name_ranks(gone, names, sizeof names);
        gathering->failure = HIPCOMM_WIRE_FAILURE_PEER_LEFT;
        gathering->peer = (uint32_t)__builtin_ctz(gone);
        snprintf(gathering->text, sizeof gathering->text, "%s left the job before all_gather '%s'", names,
                 gathering->tag);
    }
    if (gathering->failure || !missing) answer(world, gathering);
    if (missing & ~world->left) return false;
    Gathering** place = &world->gatherings;
    while (*place != gathering) place = &(*place)->next;
    *place = gathering->next;
    free_gathering(gathering);
    return true;
}

static void settle_all(World* world) {
    for (Gathering *each = world->gatherings, *next; each; each = next) {
        next = each->next;
        settle(world, each);
    }
}

/* A GATHER taken apart. */
typedef struct Given {
    hipcommWireGather fixed;
    int group_size, place; /* of the sender in it */
    uint32_t group[HIPCOMM_MAX_RANKS];
    char tag[HIPCOMM_WIRE_MAX_TAG + 1];
    const char* data;
    size_t size;
} Given;

static bool take_apart(const World* world, int rank, const char* payload, uint32_t length, Given* given) {
    if (length < sizeof given->fixed) return false;
    memcpy(&given->fixed, payload, sizeof given->fixed);
    const hipcommWireGather* fixed = &given->fixed;
    const size_t tag_begin = sizeof *fixed + 4u * fixed->group_size, data_begin = tag_begin + fixed->tag_length;
    if (fixed->group_size > world->size || fixed->tag_length < 1 || fixed->tag_length > HIPCOMM_WIRE_MAX_TAG ||
        data_begin > length || length - data_begin > HIPCOMM_WIRE_MAX_DATA || fixed->timeout_ms == 0)
        return false;
    memcpy(given->tag, payload + tag_begin, fixed->tag_length);
    given->tag[fixed->tag_length] = '\0';
    given->data = payload + data_begin;
    given->size = length - data_begin;
    given->group_size = fixed->group_size ? fixed->group_size : world->size;
    given->place = -1;
    uint32_t seen = 0;
    for (int i = 0; i < given->group_size; ++i) {
        uint32_t member = (uint32_t)i;
        if (fixed->group_size) memcpy(&member, payload + sizeof *fixed + 4 * (size_t)i, sizeof member);
        if (member >= (uint32_t)world->size || has(seen, (int)member)) return false;
        if ((int)member == rank) given->place = i;
        seen |= 1u << member;
        given->group[i] = member;
    }
    return given->place >= 0;
}

static Gathering* find_gathering(World* world, const Given* given) {
    for (Gathering* each = world->gatherings; each; each = each->next)
        if (each->sequence == given->fixed.sequence && each->group_size == given->group_size &&
            strcmp(each->tag, given->tag) == 0 &&
            memcmp(each->group, given->group, (size_t)given->group_size * sizeof given->group[0]) == 0)
            return each;
    Gathering* made = calloc(1, sizeof *made);
    if (!made) return NULL;
    snprintf(made->tag, sizeof made->tag, "%s", given->tag);
    made->sequence = given->fixed.sequence;
    made->group_size = given->group_size;
    memcpy(made->group, given->group, sizeof made->group);
    made->deadline = INFINITY;
    made->next = world->gatherings;
    world->gatherings = made;
    return made;
}

bool world_gather(World* world, int rank, const char* payload, uint32_t length) {
    Given given;
    if (!take_apart(world, rank, payload, length, &given)) return false;
    if (world->has_failed) {
        Bytes frame = {0};
        build_failed(given.fixed.request, HIPCOMM_WIRE_FAILURE_PEER_LOST, world->failed_peer, world->story, &frame);
        send_to(world, rank, &frame);
        free_bytes(&frame);
        return true;
    }
    if (world->pending[rank] >= HIPCOMM_WIRE_MAX_PENDING) return false;
    Gathering* gathering = find_gathering(world, &given);
    if (!gathering || gathering->has_come[given.place]) return false;
    ++world->pending[rank];
    gathering->has_come[given.place] = gathering->is_waiting[given.place] = true;
    gathering->request[given.place] = given.fixed.request;
    append(&gathering->part[given.place], given.data, given.size);
    gathering->deadline = fmin(gathering->deadline, now_seconds() + given.fixed.timeout_ms / 1e3);
    settle(world, gathering);
    return true;
}

void world_expire(World* world, double now) {
    for (Gathering *each = world->gatherings, *next; each; each = next) {
        next = each->next;
        if (each->failure || each->deadline > now) continue;
        const uint32_t missing = missing_ranks(each);
        uint32_t came = 0;
        for (int i = 0; i < each->group_size; ++i) came |= 1u << each->group[i];
        char came_text[96], missing_text[96];
        name_ranks(came & ~missing, came_text, sizeof came_text);
        name_ranks(missing, missing_text, sizeof missing_text);
        each->failure = HIPCOMM_WIRE_FAILURE_TIMEOUT;
        each->peer = (uint32_t)__builtin_ctz(missing);
        snprintf(each->text, sizeof each->text, "all_gather '%s' timed out: %s came; %s did not", each->tag, came_text,
                 missing_text);
        settle(world, each);
    }
}

double world_next_deadline(const World* world) {
    double next = world->join_deadline;
    for (const Gathering* each = world->gatherings; each; each = each->next)
        if (!each->failure) next = fmin(next, each->deadline);
    return next;
}

/* ---- the three events ----------------------------------------------------------------------------------------------*/

void world_leave(World* world, int rank) {
    world->members &= ~(1u << rank);
    world->left |= 1u << rank;
    if (!world->has_failed) tell_others(world, HIPCOMM_WIRE_TYPE_PEER_LEFT, (uint32_t)rank, hipcommSuccess, "");
    settle_all(world);
}

bool world_closing(World* world, int rank, const char* payload, uint32_t length) {
    char name[HIPCOMM_WIRE_MAX_TEXT + 1];
    if (length == 0) return false; /* the PEER_LEFT that it becomes would say that the rank has left the job */
    copy_text(name, sizeof name, payload, length);
    if (!world->has_failed) tell_others(world, HIPCOMM_WIRE_TYPE_PEER_LEFT, (uint32_t)rank, hipcommSuccess, name);
    return true;
}

/* The first failure is the cause; what follows are its consequences. */
static void fail(World* world, hipcommWireType type, int peer, uint32_t result, const char* reason) {
    if (world->has_failed) return;
    world->has_failed = true;
    world->failed_peer = (uint32_t)peer;
    snprintf(world->story, sizeof world->story,
             type == HIPCOMM_WIRE_TYPE_ABORTED ? "rank %d aborted the job: %.900s" : "rank %d died: %.900s", peer, reason);
    free_gatherings(world);
    memset(world->pending, 0, sizeof world->pending);
    tell_others(world, type, (uint32_t)peer, result, reason);
}

void world_lose(World* world, int rank, const char* reason) {
    world->members &= ~(1u << rank);
    world->left &= ~(1u << rank);
    fail(world, HIPCOMM_WIRE_TYPE_PEER_LOST, rank, hipcommPeerDied, reason);
}

bool world_abort(World* world, int rank, const char* payload, uint32_t length) {
    hipcommWireAbort fixed;
    if (length < sizeof fixed) return false;
    memcpy(&fixed, payload, sizeof fixed);
    char text[HIPCOMM_WIRE_MAX_TEXT + 1];
    copy_text(text, sizeof text, payload + sizeof fixed, length - sizeof fixed);
    const bool is_one = world->left && !(world->left & (world->left - 1));
    if (fixed.result == hipcommPeerDied && is_one) { /* it waited for the rank that has left */
        snprintf(text, sizeof text, "it has left the job, and rank %d waited for it", rank);
        world_lose(world, __builtin_ctz(world->left), text);
    } else {
        fail(world, HIPCOMM_WIRE_TYPE_ABORTED, rank, fixed.result, text);
    }
    return true;
}
