/* The client's receiving side: one thread, which ends when the connection does. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../failure.h"
#include "client_state.h"
#include "sockets.h"
#include "threads.h"

Failure make_failure(int peer, const char* reason, hipcommResult_t result) {
    Failure failure = {.is_set = true, .peer = peer, .result = result};
    copy_text(failure.reason, sizeof failure.reason, reason, strlen(reason));
    return failure;
}

bool wait_for_change(Client* client, double deadline) {
    const time_t seconds = (time_t)deadline;
    const struct timespec until = {.tv_sec = seconds, .tv_nsec = (long)((deadline - (double)seconds) * 1e9)};
    return pthread_cond_timedwait(&client->changed, &client->lock, &until) != ETIMEDOUT;
}

void client_fail(Client* client, int peer, const char* reason, hipcommResult_t result) {
    pthread_mutex_lock(&client->lock);
    if (!client->failure.is_set) {
        client->failure = make_failure(peer, reason, result);
        for (Listener* each = client->listeners; each; each = each->next)
            each->failed(each->context, peer, client->failure.reason, result);
    }
    pthread_cond_broadcast(&client->changed);
    pthread_mutex_unlock(&client->lock);
}

/* A RESULT or a FAILED: hand it to whom it is for; the payload is theirs then. */
static bool hand_over(Client* client, const hipcommWireHeader* header, char* payload) {
    uint32_t number;
    if (header->length < sizeof number) return false;
    memcpy(&number, payload, sizeof number);
    pthread_mutex_lock(&client->lock);
    Request* request = client->requests;
    while (request && request->number != number) request = request->next;
    if (request && !request->is_done) {
        request->is_done = true;
        request->type = header->type;
        request->payload = payload;
        request->length = header->length;
    } else {
        free(payload); /* its caller has given up */
    }
    pthread_cond_broadcast(&client->changed);
    pthread_mutex_unlock(&client->lock);
    return true;
}

static void note_leaving(Client* client, uint32_t peer, const char* communicator) {
    pthread_mutex_lock(&client->lock);
    if (!*communicator) client->left |= 1u << peer;
    for (Listener* each = client->listeners; each; each = each->next)
        each->left(each->context, (int)peer, communicator);
    pthread_mutex_unlock(&client->lock);
}

/* PEER_LOST, ABORTED, PEER_LEFT. */
static bool take_event(Client* client, const hipcommWireHeader* header, const char* payload) {
    hipcommWirePeer fixed;
    if (header->length < sizeof fixed) return false;
    memcpy(&fixed, payload, sizeof fixed);
    if (fixed.peer >= (uint32_t)client->world) return false;
    char text[MAX_SHOWN_TEXT - 64], reason[MAX_SHOWN_TEXT];
    copy_text(text, sizeof text, payload + sizeof fixed, header->length - sizeof fixed);
    if (header->type == HIPCOMM_WIRE_TYPE_PEER_LEFT) {
        note_leaving(client, fixed.peer, text);
        return true;
    }
    const bool is_lost = header->type == HIPCOMM_WIRE_TYPE_PEER_LOST;
    snprintf(reason, sizeof reason, is_lost ? "rank %u died: %s" : "rank %u aborted the job: %s", fixed.peer, text);
    const bool is_mismatch = !is_lost && fixed.result == hipcommCallMismatch; /* the same error on all ranks */
    client_fail(client, (int)fixed.peer, reason, is_mismatch ? hipcommCallMismatch : hipcommPeerDied);
    return true;
}

/* ASK: say what this rank's communicators are waiting in. */
static void report(Client* client) {
    char text[MAX_SHOWN_TEXT] = "";
    size_t used = 0;
    pthread_mutex_lock(&client->lock);
    for (Listener* each = client->listeners; each && used < sizeof text - 2; each = each->next) {
        if (!each->describe) continue;
        each->describe(each->context, text + used, sizeof text - used - 1);
        if (!text[used]) continue;
        used += strlen(text + used);
        text[used++] = '\n';
        text[used] = 0;
    }
    pthread_mutex_unlock(&client->lock);
    client_report(client, used ? text : "waiting in no kernel");
}

/* Act on a frame; false: it is none that the server sends. Takes over the payload. */
static bool handle(Client* client, const hipcommWireHeader* header, char* payload) {
    if (header->type == HIPCOMM_WIRE_TYPE_RESULT || header->type == HIPCOMM_WIRE_TYPE_FAILED) {
        if (hand_over(client, header, payload)) return true;
        free(payload);
        return false;
    }
    if (header->type == HIPCOMM_WIRE_TYPE_ASK) {
        free(payload);
        report(client);
        return true;
    }
    const bool is_event = header->type == HIPCOMM_WIRE_TYPE_PEER_LOST || header->type == HIPCOMM_WIRE_TYPE_ABORTED ||
                          header->type == HIPCOMM_WIRE_TYPE_PEER_LEFT;
    const bool is_sound = is_event && take_event(client, header, payload);
    free(payload);
    return is_sound;
}

static void* read_frames(void* context) {
    Client* client = context;
    const size_t limit = sizeof(hipcommWireResult) + (size_t)client->world * (4 + HIPCOMM_WIRE_MAX_DATA);
    hipcommWireHeader header;
    char* payload;
    const char* problem = NULL;
    /* without a limit: end_client() wakes it through shutdown() */
    while (!problem && receive_frame(client->socket, &header, &payload, limit, INFINITY))
        if (!handle(client, &header, payload)) problem = "it sent what is no frame of a server";
    if (!problem) problem = errno == ECONNRESET ? "it closed the connection" : strerror(errno);
    pthread_mutex_lock(&client->lock);
    const bool is_expected = client->is_closed;
    const int host = client->server_rank;
    client->is_read_out = true;
    pthread_cond_broadcast(&client->changed);
    pthread_mutex_unlock(&client->lock);
    if (is_expected) return NULL;
    char reason[256], where[32] = "";
    if (host >= 0) snprintf(where, sizeof where, " in rank %d", host);
    snprintf(reason, sizeof reason, "lost the rendezvous server%s (%s)", where, problem);
    client_fail(client, host, reason, hipcommPeerDied);
    return NULL;
}

hipcommResult_t start_reader(Client* client) {
    const int error = start_thread(&client->reader, read_frames, client);
    if (error) return set_error(NULL, hipcommPlatformError, "cannot start the rendezvous thread: %s", strerror(error));
    client->has_reader = true;
    return hipcommSuccess;
}
