/* What the two sides of the client share: its callers (client.c) and its reader (client_reader.c). */
#ifndef HIPCOMM_NATIVE_JOIN_CLIENT_STATE_H
#define HIPCOMM_NATIVE_JOIN_CLIENT_STATE_H

#include <pthread.h>

#include "client.h"
#include "endpoint.h"
#include "frames.h"

/* An all-gather of this rank that is under way; on its caller's stack. */
typedef struct Request {
    uint32_t number;
    bool is_done;
    uint16_t type; /* RESULT or FAILED, and what came with it */
    char* payload;
    uint32_t length;
    struct Request* next;
} Request;

typedef struct Failure {
    bool is_set;
    int peer; /* or -1 */
    hipcommResult_t result;
    char reason[MAX_SHOWN_TEXT];
} Failure;
Failure make_failure(int peer, const char* reason, hipcommResult_t result);

struct Client {
    int rank, world;
    int socket; /* -1: a world of one */
    pthread_t reader;
    bool has_reader;
    pthread_mutex_t sending;

    Server* hosted; /* or NULL */
    EndpointFile file;
    Endpoint endpoint;
    int publishing;    /* holds the lock of endpoint files; -1: no more */
    bool is_published; /* in the file */
    double patience;   /* how long to wait for the others to leave the hosted server */

    pthread_mutex_t lock; /* for all that follows; `changed`: for all of it */
    pthread_cond_t changed;
    int server_rank; /* the other rank whose process hosts the server; -1: none or not known */
    Failure failure; /* the first; it stays */
    uint32_t left;   /* a bit for each rank */
    Listener* listeners;
    Request* requests;
    uint32_t next_request;
    int users;
    bool has_trouble;
    bool is_closed;   /* it has said LEAVE, or is about to */
    bool is_read_out; /* the reader has ended */
};

/* Wait for a change; with the lock. False at the deadline. */
bool wait_for_change(Client* client, double deadline);

/* Note the first failure, wake all who wait, tell the listeners. */
void client_fail(Client* client, int peer, const char* reason, hipcommResult_t result);

hipcommResult_t start_reader(Client* client);

#endif
