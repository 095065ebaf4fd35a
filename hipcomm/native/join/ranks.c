#include "ranks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../failure.h"
#include "frames.h"

void ranks_of_job(Ranks* ranks, Client* client, double timeout) {
    *ranks = (Ranks){.client = client, .rank = client_rank(client), .world = client_world(client), .timeout = timeout};
    for (int i = 0; i < ranks->world; ++i) ranks->members[i] = (uint32_t)i;
    snprintf(ranks->name, sizeof ranks->name, "%s", HIPCOMM_WIRE_NAME);
}

void ranks_of_part(Ranks* part, const Ranks* ranks, const int* members, int count) {
    *part = (Ranks){.client = ranks->client, .world = count, .timeout = ranks->timeout};
    for (int i = 0; i < count; ++i) {
        part->members[i] = ranks->members[members[i]];
        if (members[i] == ranks->rank) part->rank = i;
    }
    snprintf(part->name, sizeof part->name, "%.148s.%u", ranks->name, ranks->splits);
}

int number_in_group(const Ranks* ranks, int rank_in_job) {
    for (int i = 0; i < ranks->world; ++i)
        if ((int)ranks->members[i] == rank_in_job) return i;
    return -1;
}

/* The number of earlier exchanges with this tag; -1: there are too many tags, which is a mistake of this library. */
static long count_use(Ranks* ranks, const char* tag) {
    for (int i = 0; i < MAX_TAGS; ++i) {
        if (*ranks->tags[i].tag && strcmp(ranks->tags[i].tag, tag) != 0) continue;
        snprintf(ranks->tags[i].tag, sizeof ranks->tags[i].tag, "%s", tag);
        return ranks->tags[i].uses++;
    }
    return -1;
}

static Part make_part(Ranks* ranks, const char* tag, const void* data, size_t size, double timeout, char* name,
                      size_t name_size) {
    snprintf(name, name_size, "%s/%s", ranks->name, tag);
    return (Part){
        .tag = name,
        .sequence = (uint32_t)count_use(ranks, tag),
        .group = ranks->members,
        .group_size = ranks->world,
        .data = data,
        .size = size,
        .timeout = timeout,
    };
}

hipcommResult_t ranks_gather(Ranks* ranks, const char* tag, const void* data, size_t size, double timeout,
                             Gathered* gathered) {
    char name[HIPCOMM_WIRE_MAX_TAG];
    const Part part = make_part(ranks, tag, data, size, timeout, name, sizeof name);
    return client_all_gather(ranks->client, &part, gathered);
}

void ranks_give(Ranks* ranks, const char* tag, const void* data, size_t size, double timeout) {
    char name[HIPCOMM_WIRE_MAX_TAG];
    const Part part = make_part(ranks, tag, data, size, timeout, name, sizeof name);
    client_give(ranks->client, &part);
}

/* What all ranks have given, one after the other; frees `gathered`. */
static hipcommResult_t copy_equal(const char* tag, Gathered* gathered, size_t size, void* all) {
    hipcommResult_t result = hipcommSuccess;
    for (int rank = 0; rank < gathered->parts && result == hipcommSuccess; ++rank) {
        if (gathered->size[rank] == size && size > 0)
            memcpy((char*)all + (size_t)rank * size, gathered->data[rank], size);
        else if (gathered->size[rank] != size)
            result = set_error(NULL, hipcommPlatformError, "%s: rank %d has sent %u bytes, not %zu", tag, rank,
                               gathered->size[rank], size);
    }
    free(gathered->memory);
    return result;
}

hipcommResult_t ranks_gather_equal(Ranks* ranks, const char* tag, const void* data, size_t size, void* all) {
    Gathered gathered;
    const hipcommResult_t result = ranks_gather(ranks, tag, data, size, ranks->timeout, &gathered);
    return result == hipcommSuccess ? copy_equal(tag, &gathered, size, all) : result;
}

hipcommResult_t ranks_agree(Ranks* ranks, const char* tag, hipcommResult_t problem, const void* data, size_t size,
                            Gathered* gathered) {
    const hipcommWireStatus status = {(uint32_t)problem};
    Bytes mine = {0};
    append(&mine, &status, sizeof status);
    if (problem == hipcommSuccess)
        append(&mine, data, size);
    else
        append_text(&mine, hipcommGetLastError(NULL));
    if (mine.incomplete) {
        free_bytes(&mine);
        return set_error(NULL, hipcommOutOfMemory, "rank %d: no memory for an exchange", ranks->rank);
    }
    hipcommResult_t result = ranks_gather(ranks, tag, mine.data, mine.size, ranks->timeout, gathered);
    free_bytes(&mine);
    for (int rank = 0; rank < gathered->parts && result == hipcommSuccess; ++rank) {
        hipcommWireStatus theirs;
        if (gathered->size[rank] < sizeof theirs) {
            result = set_error(NULL, hipcommPlatformError, "%s: rank %d has sent no status", tag, rank);
            break;
        }
        memcpy(&theirs, gathered->data[rank], sizeof theirs);
        gathered->data[rank] += sizeof theirs;
        gathered->size[rank] -= (uint32_t)sizeof theirs;
        if (theirs.result == hipcommSuccess) continue;
        char text[MAX_SHOWN_TEXT];
        copy_text(text, sizeof text, gathered->data[rank], gathered->size[rank]);
        const bool is_known = theirs.result <= hipcommOutOfMemory;
        result = set_error(NULL, is_known ? (hipcommResult_t)theirs.result : hipcommPlatformError, "%s", text);
    }
    if (result == hipcommSuccess) return result;
    free(gathered->memory);
    *gathered = (Gathered){0};
    return result;
}

hipcommResult_t ranks_agree_equal(Ranks* ranks, const char* tag, hipcommResult_t problem, const void* data, size_t size,
                                  void* all) {
    Gathered gathered;
    const hipcommResult_t result = ranks_agree(ranks, tag, problem, data, size, &gathered);
    return result == hipcommSuccess ? copy_equal(tag, &gathered, size, all) : result;
}
