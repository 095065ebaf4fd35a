#include "client.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../failure.h"
#include "client_state.h"
#include "frames.h"
#include "joining.h"
#include "sockets.h"

#define SEND_SECONDS 5.0  /* for the server to take a frame */
#define QUICK_SECONDS 1.0 /* the same for frames that must not hold up the caller */
#define SLACK_SECONDS (HIPCOMM_WIRE_ANSWER_SLACK_MS / 1e3)

/* ---- sending -------------------------------------------------------------------------------------------------------*/

/* Send a whole frame and free it; false if the connection is gone or has not taken it. The reader notices a broken
 * connection and says so. */
static bool send_frame(Client* client, Bytes* frame, double timeout) {
    bool is_sent = client->socket < 0;
    if (!is_sent && !frame->incomplete) {
        const double deadline = now_seconds() + timeout;
        pthread_mutex_lock(&client->sending);
        is_sent = send_bytes(client->socket, frame->data, frame->size, deadline);
        /* part of a frame may have gone: nothing sensible can follow it */
        if (!is_sent && errno == ETIMEDOUT) shutdown(client->socket, SHUT_RDWR);
        pthread_mutex_unlock(&client->sending);
    }
    free_bytes(frame);
    return is_sent;
}

static void send_text(Client* client, hipcommWireType type, const char* text) {
    Bytes frame = {0};
    begin_frame(&frame, type);
    append_text(&frame, text);
    end_frame(&frame);
    send_frame(client, &frame, QUICK_SECONDS);
}

void client_waiting(Client* client, const char* text) { send_text(client, HIPCOMM_WIRE_TYPE_WAITING, text); }
void client_report(Client* client, const char* text) { send_text(client, HIPCOMM_WIRE_TYPE_REPORT, text); }
void client_closing(Client* client, const char* communicator) {
    send_text(client, HIPCOMM_WIRE_TYPE_CLOSING, communicator);
}

void client_abort(Client* client, const char* reason, hipcommResult_t result) {
    const hipcommWireAbort fixed = {(uint32_t)result};
    Bytes frame = {0};
    begin_frame(&frame, HIPCOMM_WIRE_TYPE_ABORT);
    append(&frame, &fixed, sizeof fixed);
    append_text(&frame, reason);
    end_frame(&frame);
    send_frame(client, &frame, QUICK_SECONDS);
    char text[MAX_SHOWN_TEXT];
    snprintf(text, sizeof text, "this rank aborted the job: %s", reason);
    pthread_mutex_lock(&client->lock);
    if (!client->failure.is_set) client->failure = make_failure(-1, text, hipcommPeerDied);
    pthread_cond_broadcast(&client->changed);
    pthread_mutex_unlock(&client->lock);
}

static bool is_whole_world(const Client* client, const Part* part) {
    if (part->group_size != client->world) return false;
    for (int i = 0; i < part->group_size; ++i)
        if (part->group[i] != (uint32_t)i) return false;
    return true;
}

static void build_gather(const Client* client, const Part* part, uint32_t request, Bytes* frame) {
    const double milliseconds = round(part->timeout * 1e3);
    const int group_size = is_whole_world(client, part) ? 0 : part->group_size;
    const hipcommWireGather fixed = {
        .request = request,
        .sequence = part->sequence,
        .timeout_ms = milliseconds < 1 ? 1 : milliseconds > UINT32_MAX ? UINT32_MAX : (uint32_t)milliseconds,
        .group_size = (uint16_t)group_size,
        .tag_length = (uint16_t)strlen(part->tag),
    };
    begin_frame(frame, HIPCOMM_WIRE_TYPE_GATHER);
    append(frame, &fixed, sizeof fixed);
    append(frame, part->group, (size_t)group_size * sizeof *part->group);
    append(frame, part->tag, strlen(part->tag));
    append(frame, part->data, part->size);
    end_frame(frame);
}

void client_give(Client* client, const Part* part) {
    pthread_mutex_lock(&client->lock);
    const uint32_t request = client->next_request++;
    pthread_mutex_unlock(&client->lock);
    Bytes frame = {0};
    build_gather(client, part, request, &frame);
    send_frame(client, &frame, QUICK_SECONDS);
}

/* ---- all-gather ----------------------------------------------------------------------------------------------------*/

static hipcommResult_t give_back_own(const Part* part, Gathered* gathered) {
    gathered->memory = malloc(part->size + 1);
    if (!gathered->memory) return set_error(NULL, hipcommOutOfMemory, "no memory for an exchange");
    if (part->size) memcpy(gathered->memory, part->data, part->size);
    gathered->parts = 1;
    gathered->data[0] = gathered->memory;
    gathered->size[0] = (uint32_t)part->size;
    return hipcommSuccess;
}

/* Take a RESULT apart; takes over its payload. */
static hipcommResult_t take_parts(const Part* part, char* payload, uint32_t length, Gathered* gathered) {
    hipcommWireResult fixed;
    gathered->memory = payload;
    gathered->parts = part->group_size;
    uint64_t position = sizeof fixed + 4ull * (unsigned)part->group_size;
    bool is_sound = length >= position;
    if (is_sound) {
        memcpy(&fixed, payload, sizeof fixed);
        is_sound = fixed.parts == (uint32_t)part->group_size;
    }
    for (int i = 0; is_sound && i < part->group_size; ++i) {
        memcpy(&gathered->size[i], payload + sizeof fixed + 4 * (size_t)i, 4);
        gathered->data[i] = payload + position;
        position += gathered->size[i];
        is_sound = position <= length;
    }
    if (is_sound && position == length) return hipcommSuccess;
    free(payload);
    *gathered = (Gathered){0};
    return set_error(NULL, hipcommPlatformError, "all_gather '%s': the server sent a malformed RESULT", part->tag);
}

static hipcommResult_t tell_failure(const Client* client, const Part* part, const Failure* failure) {
    return set_error(NULL, failure->result == hipcommCallMismatch ? hipcommPeerDied : failure->result,
                     "rank %d: all_gather '%s': %s", client->rank, part->tag, failure->reason);
}

static hipcommResult_t tell_answer(const Client* client, const Part* part, Request* request, Gathered* gathered) {
    if (request->type == HIPCOMM_WIRE_TYPE_RESULT)
        return take_parts(part, request->payload, request->length, gathered);
    hipcommWireFailed fixed = {0};
    char text[MAX_SHOWN_TEXT] = "the server sent a malformed FAILED";
    if (request->length >= sizeof fixed) {
        memcpy(&fixed, request->payload, sizeof fixed);
        copy_text(text, sizeof text, request->payload + sizeof fixed, request->length - sizeof fixed);
    }
    free(request->payload);
    const hipcommResult_t result =
        fixed.code == HIPCOMM_WIRE_FAILURE_TIMEOUT ? hipcommPeerTimeout : hipcommPeerDied;
    return set_error(NULL, result, "rank %d: %s", client->rank, text);
}

hipcommResult_t client_all_gather(Client* client, const Part* part, Gathered* gathered) {
    *gathered = (Gathered){0};
    Request request = {0};
    pthread_mutex_lock(&client->lock);
    const Failure before = client->failure;
    if (!before.is_set) {
        request.number = client->next_request++;
        request.next = client->requests;
        client->requests = &request;
    }
    pthread_mutex_unlock(&client->lock);
    if (before.is_set) return tell_failure(client, part, &before);
    const bool is_alone = client->world == 1;
    Bytes frame = {0};
    if (!is_alone) {
        build_gather(client, part, request.number, &frame);
        if (!send_frame(client, &frame, fmin(part->timeout, SEND_SECONDS)))
            client_fail(client, client->server_rank, "the rendezvous server took nothing", hipcommPeerDied);
    }
    /* the server reports the time-out, because it knows who is missing: hence the slack */
    const double deadline = now_seconds() + part->timeout + SLACK_SECONDS;
    pthread_mutex_lock(&client->lock);
    bool goes_on = !is_alone;
    while (goes_on && !request.is_done && !client->failure.is_set) goes_on = wait_for_change(client, deadline);
    Request** place = &client->requests;
    while (*place != &request) place = &(*place)->next;
    *place = request.next;
    const Failure failure = client->failure;
    pthread_mutex_unlock(&client->lock);
    if (is_alone) return give_back_own(part, gathered);
    if (request.is_done) return tell_answer(client, part, &request, gathered);
    if (failure.is_set) return tell_failure(client, part, &failure);
    return set_error(NULL, hipcommPeerTimeout, "rank %d: all_gather '%s': the server did not answer in %g s",
                     client->rank, part->tag, part->timeout);
}

/* ---- state -----------------------------------------------------------------------------------------------------------*/

int client_rank(const Client* client) { return client->rank; }
int client_world(const Client* client) { return client->world; }

bool client_has_failed(Client* client) {
    pthread_mutex_lock(&client->lock);
    const bool has_failed = client->failure.is_set;
    pthread_mutex_unlock(&client->lock);
    return has_failed;
}

bool client_has_left(Client* client, int rank) {
    pthread_mutex_lock(&client->lock);
    const bool has_left = client->left >> rank & 1;
    pthread_mutex_unlock(&client->lock);
    return has_left;
}

void client_set_server_rank(Client* client, int rank) {
    pthread_mutex_lock(&client->lock);
    client->server_rank = rank == client->rank ? -1 : rank;
    pthread_mutex_unlock(&client->lock);
}

void client_listen(Client* client, Listener* listener) {
    pthread_mutex_lock(&client->lock);
    listener->next = client->listeners;
    client->listeners = listener;
    for (int rank = 0; rank < client->world; ++rank)
        if (client->left >> rank & 1) listener->left(listener->context, rank, "");
    const Failure* failure = &client->failure;
    if (failure->is_set) listener->failed(listener->context, failure->peer, failure->reason, failure->result);
    pthread_mutex_unlock(&client->lock);
}

void client_unlisten(Client* client, Listener* listener) {
    pthread_mutex_lock(&client->lock);
    Listener** place = &client->listeners;
    while (*place && *place != listener) place = &(*place)->next;
    if (*place) *place = listener->next;
    pthread_mutex_unlock(&client->lock);
}

/* ---- life ------------------------------------------------------------------------------------------------------------*/

static hipcommResult_t prepare(Client* client) {
    pthread_condattr_t attributes;
    int error = pthread_mutex_init(&client->lock, NULL);
    if (!error) error = pthread_mutex_init(&client->sending, NULL);
    if (!error) error = pthread_condattr_init(&attributes);
    if (!error) {
        error = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        if (!error) error = pthread_cond_init(&client->changed, &attributes);
        pthread_condattr_destroy(&attributes);
    }
    if (!error) return hipcommSuccess;
    return set_error(NULL, hipcommPlatformError, "a lock cannot be made: %s", strerror(error));
}

static void unlock(Client* client) {
    if (client->publishing >= 0) close(client->publishing);
    client->publishing = -1;
}

/* The hosted server has let this rank in: only now the others are told where it is, and find rank 0 there. */
static hipcommResult_t publish(void* context) {
    Client* client = context;
    const hipcommResult_t result = publish_endpoint(&client->file, &client->endpoint);
    client->is_published = result == hipcommSuccess;
    unlock(client); /* for another rank 0 to look */
    return result;
}

/* Join the job of a launcher that has no server: rank 0 hosts one. */
static hipcommResult_t meet_by_file(Client* client, const Identity* identity, const Settings* settings) {
    hipcommResult_t result = find_endpoint_file(identity->job, &client->file);
    if (result != hipcommSuccess) return result;
    if (identity->rank != 0) {
        client->server_rank = 0;
        return join_published(identity, &client->file, settings->join_timeout, &client->socket);
    }
    client->publishing = lock_endpoints(&client->file);
    result = check_unclaimed(identity, &client->file);
    if (result == hipcommSuccess) {
        sweep_endpoints(&client->file);
        result = server_start(identity->world, settings->join_timeout, &client->hosted);
    }
    if (result == hipcommSuccess) {
        server_endpoint(client->hosted, &client->endpoint);
        result = join_server(identity, &client->endpoint, settings->join_timeout, publish, client, &client->socket);
    }
    unlock(client);
    return result;
}

static hipcommResult_t meet(Client* client, const Identity* identity, const Settings* settings) {
    if (identity->world == 1) return hipcommSuccess;
    if (!*settings->rendezvous.host) return meet_by_file(client, identity, settings);
    return join_server(identity, &settings->rendezvous, settings->join_timeout, NULL, NULL, &client->socket);
}

static void end_client(Client* client, double patience) {
    if (client->socket >= 0) {
        /* the server answers a LEAVE by closing; the reader ends then, or by the shutdown */
        Bytes frame = {0};
        begin_frame(&frame, HIPCOMM_WIRE_TYPE_LEAVE);
        end_frame(&frame);
        if (client->has_reader && send_frame(client, &frame, QUICK_SECONDS)) {
            const double deadline = now_seconds() + QUICK_SECONDS;
            pthread_mutex_lock(&client->lock);
            while (!client->is_read_out && wait_for_change(client, deadline)) continue;
            pthread_mutex_unlock(&client->lock);
        }
        free_bytes(&frame);
        shutdown(client->socket, SHUT_RDWR); /* wakes the reader if it still waits; fails where all is over */
        if (client->has_reader) pthread_join(client->reader, NULL);
        close_socket(client->socket);
    }
    if (client->is_published) withdraw_endpoint(&client->file, &client->endpoint);
    if (client->hosted) server_end(client->hosted, patience);
    pthread_cond_destroy(&client->changed);
    pthread_mutex_destroy(&client->sending);
    pthread_mutex_destroy(&client->lock);
    free(client);
}

hipcommResult_t client_connect(const Identity* identity, const Settings* settings, Server* hosted, Client** out) {
    Client* client = calloc(1, sizeof *client);
    if (!client) {
        if (hosted) server_end(hosted, 0);
        return set_error(NULL, hipcommOutOfMemory, "no memory for the rendezvous client");
    }
    client->rank = identity->rank;
    client->world = identity->world;
    client->socket = client->server_rank = client->publishing = -1;
    client->hosted = hosted;
    client->patience = settings->timeout;
    hipcommResult_t result = prepare(client);
    if (result == hipcommSuccess) result = meet(client, identity, settings);
    if (result == hipcommSuccess && client->socket >= 0) result = start_reader(client);
    if (result == hipcommSuccess)
        *out = client;
    else
        end_client(client, 0);
    return result;
}

void client_enter(Client* client) {
    pthread_mutex_lock(&client->lock);
    ++client->users;
    pthread_mutex_unlock(&client->lock);
}

void client_leave(Client* client, bool waits) {
    pthread_mutex_lock(&client->lock);
    const bool is_last = --client->users == 0;
    client->has_trouble |= !waits;
    const bool has_trouble = client->has_trouble || client->failure.is_set;
    client->is_closed |= is_last;
    pthread_mutex_unlock(&client->lock);
    if (is_last) end_client(client, has_trouble ? 0 : client->patience);
}
