/* One thread, one poll(), one TCP connection per rank. Connections that have not shown the token are strangers. They get
 * no answer, hold at most the memory of one JOIN each, are limited in number and in time, and never delay a rank. */
#include "server.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../failure.h"
#include "digest.h"
#include "sockets.h"
#include "threads.h"
#include "world.h"

#define MAX_STRANGERS 128 /* beyond that the oldest one is closed */
#define MAX_CONNECTIONS (MAX_STRANGERS + HIPCOMM_MAX_RANKS + 1)
#define ACCEPT_PAUSE 0.1 /* seconds without accepting when the process is out of file descriptors */
#define MAX_CLIENT_PAYLOAD \
    (sizeof(hipcommWireGather) + 4 * HIPCOMM_WIRE_MAX_WORLD + HIPCOMM_WIRE_MAX_TAG + HIPCOMM_WIRE_MAX_DATA)

typedef struct Connection {
    int socket; /* -1: none; a gap in the list until the round is over */
    int rank;   /* -1: a stranger */
    double deadline; /* for what is being received */
    hipcommWireHeader header;
    char* payload;
    size_t received; /* of header and payload */
    Bytes outbox;
    size_t sent; /* of it */
} Connection;

struct Server {
    int listener, wake, port;
    char token[HIPCOMM_WIRE_MAX_TOKEN + 1];
    double join_timeout;
    pthread_t thread;

    /* the thread's own */
    World world;
    Connection connections[MAX_CONNECTIONS]; /* in order of arrival */
    int count;
    double resume_accepting; /* 0: accepting */

    pthread_mutex_t lock; /* for all that follows */
    pthread_cond_t changed;
    bool is_empty;        /* nobody is joined */
    bool ends, ends_when_empty;
};

/* ---- connections ---------------------------------------------------------------------------------------------------*/

static void disconnect(Connection* connection) {
    close_socket(connection->socket);
    free(connection->payload);
    free_bytes(&connection->outbox);
    *connection = (Connection){.socket = -1, .rank = -1};
}

static void flush(Connection* connection) {
    while (connection->socket >= 0 && connection->sent < connection->outbox.size) {
        const ssize_t sent = send(connection->socket, connection->outbox.data + connection->sent,
                                  connection->outbox.size - connection->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0) {
            connection->sent += (size_t)sent;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return; /* full: poll() says when there is room */
        } else if (errno != EINTR) {
            break; /* broken: the receiving side will notice and act */
        }
    }
    connection->outbox.size = connection->sent = 0;
}

static void send_frame(Connection* connection, const Bytes* frame) {
    if (frame->incomplete) connection->outbox.incomplete = true;
    append(&connection->outbox, frame->data, frame->size);
    flush(connection);
}

static void send_to_rank(void* context, int rank, const Bytes* frame) {
    Server* server = context;
    for (int i = 0; i < server->count; ++i)
        if (server->connections[i].socket >= 0 && server->connections[i].rank == rank)
            send_frame(&server->connections[i], frame);
}

static void dissolve(Server* server, uint32_t code, uint32_t peer, const char* text) {
    world_dissolve(&server->world, code, peer, text);
    for (int i = 0; i < server->count; ++i)
        if (server->connections[i].rank >= 0) disconnect(&server->connections[i]);
}

/* A connection that has ended without a LEAVE. */
static void drop(Server* server, Connection* connection, const char* reason) {
    const int rank = connection->rank;
    disconnect(connection);
    if (rank < 0) return;
    if (server->world.has_formed) {
        world_lose(&server->world, rank, reason);
        return;
    }
    char text[256];
    snprintf(text, sizeof text, "rank %d was lost: %.200s", rank, reason);
    dissolve(server, HIPCOMM_WIRE_REFUSAL_PEER_LOST, (uint32_t)rank, text);
}

/* ---- frames --------------------------------------------------------------------------------------------------------*/

/* In constant time. */
static bool is_token(const Server* server, const char* shown) {
    char own[HIPCOMM_WIRE_MAX_TOKEN] = {0};
    unsigned difference = 0;
    memcpy(own, server->token, strlen(server->token));
    for (size_t i = 0; i < sizeof own; ++i) difference |= (unsigned char)(own[i] ^ shown[i]);
    return difference == 0;
}

/* Judge a stranger's first frame: the token first, and silence if it is wrong. False: close the connection. */
static bool admit(Server* server, Connection* connection) {
    hipcommWireJoin join;
    if (connection->header.type != HIPCOMM_WIRE_TYPE_JOIN || connection->header.length != sizeof join) return false;
    memcpy(&join, connection->payload, sizeof join);
    if (!is_token(server, join.token)) return false;
    hipcommWireRefused refused = {.peer = HIPCOMM_WIRE_NO_PEER};
    char text[256];
    refused.code = world_refusal(&server->world, &join, text, sizeof text);
    if (refused.code) {
        Bytes frame = {0};
        begin_frame(&frame, HIPCOMM_WIRE_TYPE_REFUSED);
        append(&frame, &refused, sizeof refused);
        append_text(&frame, text);
        end_frame(&frame);
        send_frame(connection, &frame);
        free_bytes(&frame);
        return false;
    }
    connection->rank = (int)join.rank;
    connection->deadline = INFINITY;
    world_join(&server->world, &join, now_seconds() + fmin(join.timeout_ms / 1e3, server->join_timeout));
    return true;
}

/* Act on a whole frame; false: it breaks the protocol. */
static bool handle(Server* server, Connection* connection) {
    if (connection->rank < 0) return admit(server, connection);
    World* world = &server->world;
    const int rank = connection->rank;
    const char* payload = connection->payload;
    const uint32_t length = connection->header.length;
    connection->deadline = INFINITY;
    if (!world->has_formed) return false;
    switch (connection->header.type) {
        case HIPCOMM_WIRE_TYPE_GATHER: return world_gather(world, rank, payload, length);
        case HIPCOMM_WIRE_TYPE_WAITING: return true; /* there is no launcher to show it */
        case HIPCOMM_WIRE_TYPE_REPORT: return true;  /* nor one that asks */
        case HIPCOMM_WIRE_TYPE_ABORT: return world_abort(world, rank, payload, length);
        case HIPCOMM_WIRE_TYPE_CLOSING: return world_closing(world, rank, payload, length);
        case HIPCOMM_WIRE_TYPE_LEAVE:
            disconnect(connection);
            world_leave(world, rank);
            return true;
        default: return false;
    }
}

/* Where the next bytes belong, and how many. NULL: the header is wrong, or there is no memory. */
static char* next_place(Connection* connection, size_t* wanted) {
    const size_t header = sizeof connection->header;
    if (connection->received < header) {
        *wanted = header - connection->received;
        return (char*)&connection->header + connection->received;
    }
    if (!connection->payload) connection->payload = malloc(connection->header.length);
    *wanted = header + connection->header.length - connection->received;
    return connection->payload ? connection->payload + (connection->received - header) : NULL;
}

/* Take what has arrived, until there is no more, and act on every whole frame. */
static void receive(Server* server, Connection* connection) {
    while (connection->socket >= 0) {
        size_t wanted;
        char* place = next_place(connection, &wanted);
        if (!place) return drop(server, connection, "there is no memory for what it sends");
        const ssize_t received = recv(connection->socket, place, wanted, MSG_DONTWAIT);
        if (received < 0 && errno == EINTR) continue;
        if (received < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
        if (received < 0) return drop(server, connection, "its connection broke");
        if (received == 0)
            return drop(server, connection, "its connection closed without leaving (the process ended)");
        if (connection->received == 0 && connection->rank >= 0)
            connection->deadline = now_seconds() + HIPCOMM_WIRE_FRAME_MS / 1e3;
        connection->received += (size_t)received;
        if (connection->received < sizeof connection->header) continue;
        const size_t limit = connection->rank < 0 ? sizeof(hipcommWireJoin) : MAX_CLIENT_PAYLOAD;
        const char* problem = problem_with_header(&connection->header, limit);
        if (*problem) return drop(server, connection, problem);
        if (connection->received < sizeof connection->header + connection->header.length) continue;
        if (!handle(server, connection)) return drop(server, connection, "it sent what breaks the protocol");
        free(connection->payload);
        connection->payload = NULL;
        connection->received = 0;
    }
}

/* ---- the thread ----------------------------------------------------------------------------------------------------*/

static int count_strangers(const Server* server, int* oldest) {
    int strangers = 0;
    *oldest = -1;
    for (int i = 0; i < server->count; ++i) {
        if (server->connections[i].socket < 0 || server->connections[i].rank >= 0) continue;
        if (*oldest < 0) *oldest = i;
        ++strangers;
    }
    return strangers;
}

static void remove_gaps(Server* server) {
    int kept = 0;
    for (int i = 0; i < server->count; ++i)
        if (server->connections[i].socket >= 0) server->connections[kept++] = server->connections[i];
    server->count = kept;
}

static void accept_one(Server* server) {
    int oldest;
    const int socket = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (socket < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            server->resume_accepting = now_seconds() + ACCEPT_PAUSE;
        return;
    }
    if (count_strangers(server, &oldest) >= MAX_STRANGERS) {
        receive(server, &server->connections[oldest]); /* its JOIN may have come in the meantime */
        if (server->connections[oldest].rank < 0 && server->connections[oldest].socket >= 0)
            disconnect(&server->connections[oldest]);
    }
    remove_gaps(server);
    if (server->count == MAX_CONNECTIONS || !prepare_connection(socket)) {
        close_socket(socket);
        return;
    }
    server->connections[server->count++] =
        (Connection){.socket = socket, .rank = -1, .deadline = now_seconds() + HIPCOMM_WIRE_HANDSHAKE_MS / 1e3};
}

static void expire(Server* server) {
    const double now = now_seconds();
    if (server->world.join_deadline <= now)
        dissolve(server, HIPCOMM_WIRE_REFUSAL_JOIN_TIMEOUT, HIPCOMM_WIRE_NO_PEER, "the join timed out");
    world_expire(&server->world, now);
    for (int i = 0; i < server->count; ++i)
        if (server->connections[i].socket >= 0 && server->connections[i].deadline <= now)
            drop(server, &server->connections[i], "it did not finish a frame in time");
    if (server->resume_accepting && server->resume_accepting <= now) server->resume_accepting = 0;
}

static double next_deadline(const Server* server) {
    double next = world_next_deadline(&server->world);
    for (int i = 0; i < server->count; ++i) next = fmin(next, server->connections[i].deadline);
    return server->resume_accepting ? fmin(next, server->resume_accepting) : next;
}

/* Wait for something to do, and do it. */
static void step(Server* server) {
    struct pollfd entries[MAX_CONNECTIONS + 2];
    const int count = server->count;
    entries[0] = (struct pollfd){.fd = server->wake, .events = POLLIN};
    entries[1] = (struct pollfd){.fd = server->resume_accepting ? -1 : server->listener, .events = POLLIN};
    for (int i = 0; i < count; ++i) {
        const bool is_full = server->connections[i].outbox.size > server->connections[i].sent;
        entries[i + 2] = (struct pollfd){
            .fd = server->connections[i].socket,
            .events = (short)(POLLIN | (is_full ? POLLOUT : 0)),
        };
    }
    const int ready = poll(entries, (nfds_t)count + 2, milliseconds_until(next_deadline(server)));
    uint64_t ignored;
    if (ready > 0 && entries[0].revents && read(server->wake, &ignored, sizeof ignored) < 0) return;
    for (int i = 0; i < count && ready > 0; ++i) {
        Connection* connection = &server->connections[i];
        if (connection->socket >= 0 && entries[i + 2].revents & POLLOUT) flush(connection);
        if (connection->socket >= 0 && connection->outbox.incomplete)
            drop(server, connection, "there is no memory for what it is sent");
        if (connection->socket >= 0 && entries[i + 2].revents & ~POLLOUT) receive(server, connection);
    }
    remove_gaps(server);
    if (ready > 0 && entries[1].revents) accept_one(server);
    expire(server);
    remove_gaps(server);
}

static void free_server(Server* server) {
    for (int i = 0; i < server->count; ++i) disconnect(&server->connections[i]);
    world_end(&server->world);
    close_socket(server->listener);
    close(server->wake);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->lock);
    free(server);
}

static void* serve(void* context) {
    Server* server = context;
    bool goes_on = true, is_left_alone = false;
    while (goes_on) {
        step(server);
        pthread_mutex_lock(&server->lock);
        server->is_empty = server->world.members == 0;
        is_left_alone = server->ends_when_empty;
        goes_on = !server->ends && !(is_left_alone && server->is_empty);
        pthread_cond_broadcast(&server->changed);
        pthread_mutex_unlock(&server->lock);
    }
    if (is_left_alone) free_server(server); /* nobody joins this thread */
    return NULL;
}

/* ---- from other threads --------------------------------------------------------------------------------------------*/

static hipcommResult_t refuse(Server* server, const char* what, int error) {
    if (server->listener >= 0) close_socket(server->listener);
    if (server->wake >= 0) close(server->wake);
    free(server);
    return set_error(NULL, hipcommPlatformError, "the rendezvous server cannot be started: %s: %s", what,
                     strerror(error));
}

hipcommResult_t server_start(int world, double join_timeout, Server** out) {
    Server* server = calloc(1, sizeof *server);
    if (!server) return set_error(NULL, hipcommOutOfMemory, "no memory for the rendezvous server");
    uint8_t secret[16];
    pthread_condattr_t attributes;
    server->wake = -1;
    server->join_timeout = join_timeout;
    server->is_empty = true;
    server->listener = listen_on_loopback(&server->port);
    if (server->listener < 0) return refuse(server, "it cannot listen on 127.0.0.1", errno);
    server->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server->wake < 0) return refuse(server, "eventfd", errno);
    if (!draw_random(secret, sizeof secret)) return refuse(server, "getrandom", errno);
    write_hexadecimal(secret, sizeof secret, server->token);
    world_begin(&server->world, world, send_to_rank, server);
    int error = pthread_mutex_init(&server->lock, NULL);
    if (!error) error = pthread_condattr_init(&attributes);
    if (!error) {
        error = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        if (!error) error = pthread_cond_init(&server->changed, &attributes);
        pthread_condattr_destroy(&attributes);
    }
    if (!error) error = start_thread(&server->thread, serve, server);
    if (error) return refuse(server, "its thread", error);
    *out = server;
    return hipcommSuccess;
}

void server_endpoint(const Server* server, Endpoint* endpoint) {
    *endpoint = (Endpoint){.port = server->port};
    snprintf(endpoint->host, sizeof endpoint->host, "127.0.0.1");
    snprintf(endpoint->token, sizeof endpoint->token, "%s", server->token);
}

void server_end(Server* server, double patience) {
    const double deadline = now_seconds() + patience;
    const time_t seconds = (time_t)deadline;
    const struct timespec until = {.tv_sec = seconds, .tv_nsec = (long)((deadline - (double)seconds) * 1e9)};
    pthread_t thread = server->thread;
    pthread_mutex_lock(&server->lock);
    while (!server->is_empty && pthread_cond_timedwait(&server->changed, &server->lock, &until) != ETIMEDOUT) continue;
    const bool is_over = server->is_empty;
    if (is_over)
        server->ends = true;
    else
        server->ends_when_empty = true;
    const uint64_t one = 1;
    while (write(server->wake, &one, sizeof one) < 0 && errno == EINTR) continue; /* EAGAIN: it is awake */
    pthread_mutex_unlock(&server->lock);
    if (!is_over) {
        pthread_detach(thread);
        return;
    }
    pthread_join(thread, NULL);
    free_server(server);
}
