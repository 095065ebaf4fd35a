/* The rendezvous client of one rank: all-gather of bytes, abort, and word of peers that are lost. One thread owns the
 * receiving side; any thread may send. docs/protocol.md, section 4. */
#ifndef HIPCOMM_NATIVE_JOIN_CLIENT_H
#define HIPCOMM_NATIVE_JOIN_CLIENT_H

#include "../../abi/limits.h"
#include "server.h"
#include "settings.h"

typedef struct Client Client;

/* Who is told of the three events, and asked. All functions are called with the client locked: they must not call it,
 * nor wait. */
typedef struct Listener {
    void (*failed)(void* context, int peer, const char* reason, hipcommResult_t result); /* peer: a rank, or -1 */
    void (*left)(void* context, int peer, const char* communicator); /* "": the peer has left the job */
    /* for people: what it is doing, "" for nothing; may take half a second */
    void (*describe)(void* context, char* text, size_t size);
    void* context;
    struct Listener* next;
} Listener;

/* What all ranks of a group have given, in the group's order. */
typedef struct Gathered {
    char* memory; /* free() it */
    int parts;
    const char* data[HIPCOMM_MAX_RANKS];
    uint32_t size[HIPCOMM_MAX_RANKS];
} Gathered;

/* One rank's part of an all-gather. */
typedef struct Part {
    const char* tag; /* with the communicator's name */
    uint32_t sequence;
    const uint32_t* group; /* ranks */
    int group_size;
    const void* data;
    size_t size;
    double timeout;
} Part;

/* Join the job and return once all ranks have. The server is at settings->rendezvous; without it rank 0 starts one and
 * publishes it. `hosted`: the server that this process has started already, or NULL; the client closes it. */
hipcommResult_t client_connect(const Identity* identity, const Settings* settings, Server* hosted, Client** client);

int client_rank(const Client* client);
int client_world(const Client* client);

/* Whether the world has failed: a rank is lost or has aborted, this one included, or the server is lost. */
bool client_has_failed(Client* client);

/* Whether a rank has left the job in good order. */
bool client_has_left(Client* client, int rank);

/* The rank whose process hosts the server: whose death it is if the server is lost. */
void client_set_server_rank(Client* client, int rank);

/* Answer an ASK. */
void client_report(Client* client, const char* text);

/* From now on; at once of what has happened before. */
void client_listen(Client* client, Listener* listener);
/* No more, and no call of it is under way on return. */
void client_unlisten(Client* client, Listener* listener);

hipcommResult_t client_all_gather(Client* client, const Part* part, Gathered* gathered);

/* The next four never fail and wait for a second at most. */

/* Give this rank's part without waiting for the others'. */
void client_give(Client* client, const Part* part);
/* Tell the launcher, for its summary, what this rank waits for; "": nothing. */
void client_waiting(Client* client, const char* text);
/* Tell the others that this rank makes no more calls on a communicator. */
void client_closing(Client* client, const char* communicator);
/* Tell all ranks that this one ends the job: afterwards this client has failed as well. */
void client_abort(Client* client, const char* reason, hipcommResult_t result);

/* Communicators that use the client; with the last one it leaves the job and is gone. waits: for the others to leave, if
 * this process hosts the server; not where there has been a failure. */
void client_enter(Client* client);
void client_leave(Client* client, bool waits);

#endif
