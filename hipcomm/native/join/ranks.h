/* The ranks of one communicator, as its control plane sees them: a group of the job's ranks with numbers of its own,
 * whose exchanges cannot be mistaken for another group's. docs/protocol.md, section 5. */
#ifndef HIPCOMM_NATIVE_JOIN_RANKS_H
#define HIPCOMM_NATIVE_JOIN_RANKS_H

#include "client.h"

#define MAX_TAGS 32 /* that one communicator may use */

typedef struct Ranks {
    Client* client;
    int rank, world; /* in the group */
    uint32_t members[HIPCOMM_MAX_RANKS]; /* the job's numbers */
    char name[160];
    double timeout; /* of an exchange, in seconds */
    uint32_t splits;
    struct {
        char tag[32];
        uint32_t uses;
    } tags[MAX_TAGS];
} Ranks;

/* All ranks of the job. */
void ranks_of_job(Ranks* ranks, Client* client, double timeout);

/* Some of this group's ranks, by their numbers here, in their new order. Every rank of this group counts each split in
 * `splits` first, whether it takes part or not. */
void ranks_of_part(Ranks* part, const Ranks* ranks, const int* members, int count);

/* This group's number of one of the job's ranks; -1: it is not among them. */
int number_in_group(const Ranks* ranks, int rank_in_job);

/* Give bytes to all ranks of the group and get what each has given. */
hipcommResult_t ranks_gather(Ranks* ranks, const char* tag, const void* data, size_t size, double timeout,
                             Gathered* gathered);

/* Take part in that without waiting for the others. */
void ranks_give(Ranks* ranks, const char* tag, const void* data, size_t size, double timeout);

/* The same for `size` bytes from each rank: all of them, in rank order. */
hipcommResult_t ranks_gather_equal(Ranks* ranks, const char* tag, const void* data, size_t size, void* all);

/* An exchange with a status. `problem`: hipcommSuccess, or what this rank fails with, and its message is the thread's
 * last error. If any rank has a problem all fail with the result and the message of the lowest one. */
hipcommResult_t ranks_agree(Ranks* ranks, const char* tag, hipcommResult_t problem, const void* data, size_t size,
                            Gathered* gathered);
hipcommResult_t ranks_agree_equal(Ranks* ranks, const char* tag, hipcommResult_t problem, const void* data, size_t size,
                                  void* all);

#endif
