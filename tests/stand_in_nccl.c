/* A stand-in for libnccl.so.2 that moves bytes between processes of one machine, through named pipes, and is
 * strict: a wrong argument, a transfer outside a group, two streams in one group, a call while another is in
 * progress, or a length that the receiver does not expect, is an error, and a line in $STAND_IN_NCCL_LOG.
 *
 * Calls are non-blocking: what is in progress advances when ncclCommGetAsyncError asks. A group on a stream that is being
 * captured becomes a host function of the graph, by the HIP library at $STAND_IN_HIP: it moves its bytes at each replay,
 * and waits for them until ncclCommAbort. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SUCCESS = 0, SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4, INVALID_USAGE = 5, IN_PROGRESS = 7 };
enum { MAX_RANKS = 64, MAX_TRANSFERS = 256 };

typedef struct { char internal[128]; } ncclUniqueId;
typedef struct { size_t size; unsigned magic, version; int blocking; } ncclConfig_t;
typedef struct { uint64_t magic, number, nbytes; } Header;
typedef struct { int sends, peer; char* data; Header header; size_t nbytes, done; } Transfer;
typedef struct {
    char directory[128];
    int rank, world, is_formed, state, num_transfers;
    volatile int is_over; /* memory stays: a graph may come again */
    int out[MAX_RANKS], in[MAX_RANKS];
    uint64_t sent[MAX_RANKS], received[MAX_RANKS];
    Transfer transfers[MAX_TRANSFERS];
    void* stream;
} Comm;
typedef Comm* ncclComm_t;

static __thread int depth;
static __thread Comm* grouped;

static int complain(int result, const char* format, ...) {
    const char* path = getenv("STAND_IN_NCCL_LOG");
    FILE* log = path ? fopen(path, "a") : NULL;
    if (log) {
        va_list arguments;
        va_start(arguments, format);
        vfprintf(log, format, arguments);
        va_end(arguments);
        fputc('\n', log);
        fclose(log);
    }
    return result;
}

const char* ncclGetErrorString(int result) {
    return result == INVALID_USAGE ? "invalid usage" : result == INVALID_ARGUMENT ? "invalid argument" : "system error";
}

int ncclGetUniqueId(ncclUniqueId* id) {
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "%s/stand-in.XXXXXX", getenv("STAND_IN_NCCL_DIR"));
    return mkdtemp(id->internal) ? SUCCESS : SYSTEM_ERROR;
}

static int open_pipe(Comm* comm, int from, int to) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%d-%d", comm->directory, from, to);
    if (mkfifo(path, 0600) != 0 && errno != EEXIST) return -1;
    const int fd = open(path, O_RDWR | O_NONBLOCK);
    if (fd >= 0) fcntl(fd, F_SETPIPE_SZ, 1 << 20);
    return fd;
}

int ncclCommInitRankConfig(ncclComm_t* out, int world, ncclUniqueId id, int rank, ncclConfig_t* config) {
    if (config->magic != 0xcafebeef || config->size != sizeof *config || config->version != 21400 || config->blocking != 0)
        return complain(INVALID_ARGUMENT, "a wrong ncclConfig_t");
    if (world < 1 || world > MAX_RANKS || rank < 0 || rank >= world)
        return complain(INVALID_ARGUMENT, "rank %d of %d", rank, world);
    Comm* comm = calloc(1, sizeof *comm);
    memcpy(comm->directory, id.internal, sizeof comm->directory);
    comm->rank = rank, comm->world = world, comm->state = IN_PROGRESS;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/rank%d", comm->directory, rank);
    const int mark = open(path, O_CREAT | O_EXCL, 0600);
    if (mark < 0) return complain(INVALID_USAGE, "rank %d twice, or an id that is not rank 0's", rank);
    close(mark);
    for (int peer = 0; peer < world; peer++)
        if ((comm->out[peer] = open_pipe(comm, rank, peer)) < 0 || (comm->in[peer] = open_pipe(comm, peer, rank)) < 0)
            return SYSTEM_ERROR;
    *out = comm;
    return IN_PROGRESS;
}

int ncclGroupStart(void) {
    if (depth++) return complain(INVALID_USAGE, "a group in a group");
    grouped = NULL;
    return SUCCESS;
}

static int add(int sends, char* data, size_t count, int type, int peer, Comm* comm, void* stream) {
    if (!depth) return complain(INVALID_USAGE, "a transfer outside a group");
    if (!data || !count || type != 1 || peer < 0 || peer >= comm->world || peer == comm->rank)
        return complain(INVALID_ARGUMENT, "%zu of type %d with %d", count, type, peer);
    if (comm->state != SUCCESS) return complain(INVALID_USAGE, "a call while another is in progress");
    if (grouped && (grouped != comm || comm->stream != stream))
        return complain(INVALID_USAGE, "two communicators or two streams in a group");
    if (!grouped) comm->num_transfers = 0;
    grouped = comm, comm->stream = stream;
    if (comm->num_transfers == MAX_TRANSFERS) return complain(INVALID_USAGE, "too many transfers");
    Transfer* transfer = &comm->transfers[comm->num_transfers++];
    *transfer = (Transfer){.sends = sends, .peer = peer, .data = data, .nbytes = count};
    return SUCCESS;
}

/* Numbers follow the order in which groups run, which a graph decides. */
static void begin(Comm* comm, Transfer* transfers, int count) {
    for (Transfer* transfer = transfers; transfer < transfers + count; transfer++) {
        transfer->done = 0;
        if (transfer->sends) transfer->header = (Header){0x4e43434c, comm->sent[transfer->peer]++, transfer->nbytes};
    }
}

int ncclSend(const void* data, size_t count, int type, int peer, ncclComm_t comm, void* stream) {
    return add(1, (char*)data, count, type, peer, comm, stream);
}

int ncclRecv(void* data, size_t count, int type, int peer, ncclComm_t comm, void* stream) {
    return add(0, data, count, type, peer, comm, stream);
}

/* 1: done; 0: not yet; -1: an error. In the order in which transfers of one direction with one peer were made. */
static int advance(Comm* comm, Transfer* transfer) {
    const size_t whole = sizeof(Header) + transfer->nbytes;
    while (transfer->done < whole) {
        const int in_header = transfer->done < sizeof(Header);
        char* at = in_header ? (char*)&transfer->header + transfer->done : transfer->data + transfer->done - sizeof(Header);
        const size_t left = in_header ? sizeof(Header) - transfer->done : whole - transfer->done;
        const ssize_t moved = transfer->sends ? write(comm->out[transfer->peer], at, left)
                                              : read(comm->in[transfer->peer], at, left);
        if (moved < 0) return errno == EAGAIN ? 0 : -1;
        transfer->done += (size_t)moved;
        if (!transfer->sends && in_header && transfer->done == sizeof(Header)) {
            const Header* header = &transfer->header;
            if (header->magic != 0x4e43434c || header->number != comm->received[transfer->peer]++ || header->nbytes != transfer->nbytes)
                return complain(-1, "a message of %lu bytes where %zu were expected", header->nbytes, transfer->nbytes);
        }
    }
    return 1;
}

/* Returns whether all are done, or -1. */
static int advance_all(Comm* comm, Transfer* transfers, int count) {
    int done = 0, is_blocked[2][MAX_RANKS] = {{0}};
    for (Transfer* transfer = transfers; transfer < transfers + count; transfer++) {
        if (is_blocked[transfer->sends][transfer->peer]) continue;
        const int result = advance(comm, transfer);
        if (result < 0) return -1;
        is_blocked[transfer->sends][transfer->peer] = result == 0;
        done += result;
    }
    return done == count;
}

typedef struct { Comm* comm; int count; Transfer transfers[]; } Group;

static void replay(void* captured) {
    Group* group = captured;
    if (group->comm->is_over) return;
    begin(group->comm, group->transfers, group->count);
    int state = 0;
    while (state == 0 && !group->comm->is_over)
        if ((state = advance_all(group->comm, group->transfers, group->count)) == 0) usleep(20);
    if (state < 0) complain(0, "a replayed group has failed");
}

/* Whether the group's stream is being captured; then it has become a part of the graph. */
static int capture(Comm* comm) {
    void* hip = comm->stream && getenv("STAND_IN_HIP") ? dlopen(getenv("STAND_IN_HIP"), RTLD_NOW | RTLD_NOLOAD) : NULL;
    if (!hip) return 0;
    int (*is_capturing)(void*, int*) = (int (*)(void*, int*))dlsym(hip, "hipStreamIsCapturing");
    int (*launch)(void*, void (*)(void*), void*) = (int (*)(void*, void (*)(void*), void*))dlsym(hip, "hipLaunchHostFunc");
    int status = 0;
    if (is_capturing(comm->stream, &status) != 0 || status == 0) return 0;
    Group* group = malloc(sizeof *group + (size_t)comm->num_transfers * sizeof(Transfer));
    group->comm = comm, group->count = comm->num_transfers;
    memcpy(group->transfers, comm->transfers, (size_t)comm->num_transfers * sizeof(Transfer));
    if (launch(comm->stream, replay, group) != 0) complain(0, "hipLaunchHostFunc failed");
    return 1;
}

int ncclGroupEnd(void) {
    if (depth-- != 1) return complain(INVALID_USAGE, "the end of no group");
    if (!grouped) return SUCCESS;
    complain(0, "group of %d", grouped->num_transfers);
    if (capture(grouped)) return SUCCESS;
    begin(grouped, grouped->transfers, grouped->num_transfers);
    grouped->state = IN_PROGRESS;
    return IN_PROGRESS;
}

int ncclCommGetAsyncError(ncclComm_t comm, int* state) {
    if (comm->state == IN_PROGRESS && !comm->is_formed) {
        int present = 0;
        for (int rank = 0; rank < comm->world; rank++) {
            char path[PATH_MAX];
            snprintf(path, sizeof path, "%s/rank%d", comm->directory, rank);
            present += access(path, F_OK) == 0;
        }
        if (present == comm->world) comm->is_formed = 1, comm->state = SUCCESS;
    } else if (comm->state == IN_PROGRESS) {
        const int done = advance_all(comm, comm->transfers, comm->num_transfers);
        if (done) comm->state = done < 0 ? INVALID_USAGE : SUCCESS;
    }
    *state = comm->state;
    return SUCCESS;
}

int ncclCommAbort(ncclComm_t comm) {
    comm->is_over = 1;
    return SUCCESS;
}
