#include "joining.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../failure.h"
#include "frames.h"
#include "sockets.h"

#define POLL_SECONDS 0.02    /* between two looks at the endpoint file, or two attempts to connect */
#define PROBE_SECONDS 1.0    /* for a server that may be a leftover to answer */
#define HUNG_UP_SECONDS 1.0  /* to try again where the server closes the connection before an answer */
#define ACCEPT_SECONDS (HIPCOMM_WIRE_ACCEPT_MS / 1e3)
#define SLACK_SECONDS (HIPCOMM_WIRE_ANSWER_SLACK_MS / 1e3)

typedef struct Attempt {
    enum { kJoined, kNobodyListens, kHungUp, kTryAgain, kFinal } outcome;
    int socket;
    hipcommResult_t result; /* kFinal: with the message in place */
    char reason[1024];      /* kHungUp, kTryAgain */
} Attempt;

static Attempt finally(const Identity* identity, hipcommResult_t result, const char* what) {
    set_error(NULL, result, "rank %d of %d: %s", identity->rank, identity->world, what);
    return (Attempt){.outcome = kFinal, .socket = -1, .result = result};
}

/* What a REFUSED comes to. */
static Attempt refused(const Identity* identity, const char* payload, uint32_t length) {
    hipcommWireRefused fixed = {0};
    char text[MAX_SHOWN_TEXT], what[MAX_SHOWN_TEXT + 16];
    if (length < sizeof fixed) return (Attempt){kTryAgain, -1, hipcommPlatformError, "it sent a malformed REFUSED"};
    memcpy(&fixed, payload, sizeof fixed);
    copy_text(text, sizeof text, payload + sizeof fixed, length - sizeof fixed);
    if (fixed.code == HIPCOMM_WIRE_REFUSAL_WORLD_FULL) {
        Attempt attempt = {.outcome = kTryAgain, .socket = -1};
        snprintf(attempt.reason, sizeof attempt.reason, "%s", text);
        return attempt;
    }
    snprintf(what, sizeof what, "join: %s", text);
    switch (fixed.code) {
        case HIPCOMM_WIRE_REFUSAL_PEER_LOST: return finally(identity, hipcommPeerDied, what);
        case HIPCOMM_WIRE_REFUSAL_JOIN_TIMEOUT: return finally(identity, hipcommPeerTimeout, what);
        default: return finally(identity, hipcommInvalidArgument, what);
    }
}

static bool send_join(int socket, const Identity* identity, const Endpoint* endpoint, double deadline) {
    const double left = (deadline - now_seconds()) * 1e3;
    hipcommWireJoin join = {
        .rank = (uint32_t)identity->rank,
        .world_size = (uint32_t)identity->world,
        .timeout_ms = left < 1 ? 1 : left > UINT32_MAX ? UINT32_MAX : (uint32_t)left,
        .pid = (uint32_t)getpid(),
    };
    memcpy(join.token, endpoint->token, strlen(endpoint->token));
    Bytes frame = {0};
    begin_frame(&frame, HIPCOMM_WIRE_TYPE_JOIN);
    append(&frame, &join, sizeof join);
    end_frame(&frame);
    errno = ENOMEM;
    const bool is_sent = !frame.incomplete && send_bytes(socket, frame.data, frame.size, deadline);
    free_bytes(&frame);
    return is_sent;
}

/* Wait for one frame of a type. */
static Attempt await(int socket, const Identity* identity, hipcommWireType wanted, double deadline) {
    hipcommWireHeader header;
    char* payload;
    Attempt attempt = {.outcome = kTryAgain, .socket = -1};
    if (!receive_frame(socket, &header, &payload, sizeof(hipcommWireRefused) + HIPCOMM_WIRE_MAX_TEXT, deadline)) {
        attempt.outcome = errno == ECONNRESET || errno == EPIPE ? kHungUp : kTryAgain;
        snprintf(attempt.reason, sizeof attempt.reason, "%s",
                 errno == ECONNRESET ? "it closed the connection" : strerror(errno));
        return attempt;
    }
    if (header.type == wanted)
        attempt = (Attempt){.outcome = kJoined, .socket = socket};
    else if (header.type == HIPCOMM_WIRE_TYPE_REFUSED)
        attempt = refused(identity, payload, header.length);
    else
        snprintf(attempt.reason, sizeof attempt.reason, "it sent a frame of type %d", header.type);
    free(payload);
    return attempt;
}

/* Put "the server at ... (" before the reason. */
static Attempt explain(Attempt attempt, const Endpoint* endpoint, const char* stage) {
    char reason[sizeof attempt.reason];
    if (attempt.socket >= 0) close_socket(attempt.socket);
    attempt.socket = -1;
    if (attempt.outcome != kHungUp && attempt.outcome != kTryAgain) return attempt;
    snprintf(reason, sizeof reason, "%s", attempt.reason);
    const int used = snprintf(attempt.reason, sizeof attempt.reason, "the server at %s:%d %s (", endpoint->host,
                              endpoint->port, stage);
    snprintf(attempt.reason + used, sizeof attempt.reason - (size_t)used, "%.*s)",
             (int)(sizeof attempt.reason - (size_t)used - 2), reason);
    return attempt;
}

/* Connect, send the JOIN and hear that the server lets us in. */
static Attempt knock(const Identity* identity, const Endpoint* endpoint, double deadline) {
    char what[512];
    const int socket = connect_to(endpoint->host, endpoint->port, deadline);
    if (socket < 0) {
        if (errno == ECONNREFUSED) return (Attempt){.outcome = kNobodyListens, .socket = -1};
        snprintf(what, sizeof what, "cannot connect to the server at %s:%d: %s", endpoint->host, endpoint->port,
                 strerror(errno));
        return finally(identity, hipcommPlatformError, what);
    }
    Attempt attempt = {.outcome = kHungUp};
    if (send_join(socket, identity, endpoint, deadline))
        attempt = await(socket, identity, HIPCOMM_WIRE_TYPE_ACCEPTED, fmin(deadline, now_seconds() + ACCEPT_SECONDS));
    else
        snprintf(attempt.reason, sizeof attempt.reason, "%s", strerror(errno));
    attempt.socket = socket;
    if (attempt.outcome == kJoined) return attempt;
    return explain(attempt, endpoint, "did not let us in; a wrong token looks like this");
}

/* Try once. */
static Attempt attempt_to_join(const Identity* identity, const Endpoint* endpoint, double deadline,
                               AcceptedFunction accepted, void* context) {
    Attempt attempt = knock(identity, endpoint, deadline);
    if (attempt.outcome != kJoined) return attempt;
    const int socket = attempt.socket;
    const hipcommResult_t result = accepted ? accepted(context) : hipcommSuccess;
    if (result == hipcommSuccess)
        attempt = await(socket, identity, HIPCOMM_WIRE_TYPE_WELCOME, deadline + SLACK_SECONDS);
    else
        attempt = (Attempt){.outcome = kFinal, .result = result};
    attempt.socket = socket;
    if (attempt.outcome == kJoined) return attempt;
    if (attempt.outcome == kHungUp) attempt.outcome = kTryAgain;
    return explain(attempt, endpoint, "was lost before all ranks had come");
}

hipcommResult_t check_unclaimed(const Identity* identity, const EndpointFile* file) {
    Endpoint endpoint;
    if (!look_up_endpoint(file, &endpoint)) return hipcommSuccess;
    const Attempt attempt = knock(identity, &endpoint, now_seconds() + PROBE_SECONDS);
    if (attempt.outcome == kJoined) close_socket(attempt.socket);
    /* anything else is a leftover: nobody is there, or all ranks have come already */
    return attempt.outcome == kFinal && attempt.result == hipcommInvalidArgument ? attempt.result : hipcommSuccess;
}

hipcommResult_t join_server(const Identity* identity, const Endpoint* endpoint, double timeout, AcceptedFunction accepted,
                            void* context, int* socket) {
    const double deadline = now_seconds() + timeout;
    double heard_by = INFINITY;
    for (;;) {
        const Attempt attempt = attempt_to_join(identity, endpoint, deadline, accepted, context);
        const double next = now_seconds() + POLL_SECONDS;
        *socket = attempt.socket;
        switch (attempt.outcome) {
            case kJoined: return hipcommSuccess;
            case kFinal: return attempt.result;
            case kNobodyListens: /* yet: a server may be started after its ranks */
                if (next >= deadline)
                    return set_error(NULL, hipcommPeerTimeout, "rank %d of %d: nobody listens at %s:%d (tried for %g s)",
                                     identity->rank, identity->world, endpoint->host, endpoint->port, timeout);
                break;
            case kHungUp: /* a wrong token, or strangers have flooded the server */
                heard_by = fmin(fmin(heard_by, now_seconds() + HUNG_UP_SECONDS), deadline);
                if (next < heard_by) break;
                /* fall through */
            case kTryAgain:
                return set_error(NULL, hipcommPlatformError, "rank %d of %d: %s", identity->rank, identity->world,
                                 attempt.reason);
        }
        sleep_until(next);
    }
}

hipcommResult_t join_published(const Identity* identity, const EndpointFile* file, double timeout, int* socket) {
    const double deadline = now_seconds() + timeout;
    char obstacle[1024] = "rank 0 has not written it";
    for (;;) {
        Endpoint endpoint;
        if (look_up_endpoint(file, &endpoint)) {
            const Attempt attempt = attempt_to_join(identity, &endpoint, deadline, NULL, NULL);
            *socket = attempt.socket;
            if (attempt.outcome == kJoined) return hipcommSuccess;
            if (attempt.outcome == kFinal) return attempt.result;
            if (attempt.outcome == kNobodyListens)
                snprintf(obstacle, sizeof obstacle, "nobody listens at %s:%d, which it names", endpoint.host,
                         endpoint.port);
            else
                snprintf(obstacle, sizeof obstacle, "%s", attempt.reason);
        }
        const double next = now_seconds() + POLL_SECONDS;
        if (next >= deadline)
            return set_error(NULL, hipcommPeerTimeout,
                             "rank %d of %d: found no server through the endpoint file %.300s in %g s: %.400s (are all "
                             "ranks of one job on this machine? else set HIPCOMM_JOB_ID)", identity->rank,
                             identity->world, file->path, timeout, obstacle);
        sleep_until(next);
    }
}
