/* The state of the one world of a server: who is in, what is being gathered, what has failed. No sockets and no threads
 * here. docs/protocol.md, sections 3 and 4. */
#ifndef HIPCOMM_NATIVE_JOIN_WORLD_H
#define HIPCOMM_NATIVE_JOIN_WORLD_H

#include "../../abi/limits.h"
#include "frames.h"

/* Sends a whole frame to a rank; never blocks and never fails. */
typedef void (*SendFunction)(void* context, int rank, const Bytes* frame);

/* One all-gather: the parts that came, until all have come. */
typedef struct Gathering {
    char tag[HIPCOMM_WIRE_MAX_TAG + 1];
    uint32_t sequence;
    int group_size;
    uint32_t group[HIPCOMM_MAX_RANKS];
    /* by place in the group */
    bool has_come[HIPCOMM_MAX_RANKS], is_waiting[HIPCOMM_MAX_RANKS];
    uint32_t request[HIPCOMM_MAX_RANKS];
    Bytes part[HIPCOMM_MAX_RANKS];
    double deadline;
    uint32_t failure; /* a hipcommWireFailure; 0: none */
    uint32_t peer;
    char text[512];
    struct Gathering* next;
} Gathering;

typedef struct World {
    int size; /* 0: as the first rank says */
    SendFunction send;
    void* context;
    bool has_formed;
    uint32_t members, left; /* a bit for each rank */
    uint32_t pids[HIPCOMM_MAX_RANKS], rivals[HIPCOMM_MAX_RANKS]; /* processes; that claimed a rank that had joined, or 0 */
    int pending[HIPCOMM_MAX_RANKS]; /* all-gathers under way */
    double join_deadline;
    bool has_failed;
    uint32_t failed_peer;
    char story[1024];
    Gathering* gatherings;
} World;

void world_begin(World* world, int size, SendFunction send, void* context);
void world_end(World* world);

/* Whether a JOIN may be accepted; else a hipcommWireRefusal and what to say. */
uint32_t world_refusal(World* world, const hipcommWireJoin* join, char* text, size_t size);

/* Take a rank in; form the world if it was the last. Its connection is there. */
void world_join(World* world, const hipcommWireJoin* join, double deadline);

/* Refuse all members of a world that has not formed, and say who came and who did not. */
void world_dissolve(World* world, uint32_t code, uint32_t peer, const char* text);

/* The next three return false for what breaks the protocol. */
bool world_gather(World* world, int rank, const char* payload, uint32_t length);
bool world_closing(World* world, int rank, const char* payload, uint32_t length);
bool world_abort(World* world, int rank, const char* payload, uint32_t length);

void world_leave(World* world, int rank);
void world_lose(World* world, int rank, const char* reason);

/* Fail the all-gathers whose time is over; when that is due next. */
void world_expire(World* world, double now);
double world_next_deadline(const World* world);

#endif
