/* Ranks without Python, and every way in which they can meet: ranks WAY ..., on the CPU platform.
 *
 *   env                  as the environment says
 *   id FILE RANK WORLD   by an id that rank 0 writes to FILE
 *   ids FILE RANK WORLD  the same, thrice, one communicator after the other
 *   bootstrap WORLD      children of this process, with an all-gather of its own
 *   all WORLD            threads of this process
 *
 * Each rank makes collectives, symmetric memory, parts of the communicator and registered memory, compares the results,
 * and prints "rank R of W: ok". */
#define _DEFAULT_SOURCE
#include <hipcomm.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT 70000

#define CHECK(call, comm)                                                                                  \
    do {                                                                                                   \
        const hipcommResult_t result_ = (call);                                                            \
        if (result_ != hipcommSuccess) {                                                                   \
            fprintf(stderr, "%s: %s: %s\n", #call, hipcommGetResultName(result_), hipcommGetLastError(comm)); \
            exit(3);                                                                                       \
        }                                                                                                  \
    } while (0)

#define EXPECT(condition)                                                        \
    do {                                                                         \
        if (!(condition)) {                                                      \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);      \
            exit(4);                                                             \
        }                                                                        \
    } while (0)

static int value(int rank, int index, int salt) { return (rank + 3) * 1000 + index % 977 + salt * (rank + 1); }

static void fill(int32_t* data, int rank, int salt) {
    for (int i = 0; i < COUNT; ++i) data[i] = value(rank, i, salt);
}

/* The sum over some ranks, by their numbers when the data were made. */
static void expect_sum(const int32_t* data, const int* ranks, int count, int salt) {
    for (int i = 0; i < COUNT; ++i) {
        int sum = 0;
        for (int r = 0; r < count; ++r) sum += value(ranks[r], i, salt);
        EXPECT(data[i] == sum);
    }
}

static void reduce(hipcommComm_t comm, int32_t* send, int32_t* recv, int own, const int* ranks, int count, int salt) {
    fill(send, own, salt);
    if (send != recv) memset(recv, 0x5a, COUNT * sizeof *recv);
    CHECK(hipcommAllReduce(send, recv, COUNT, hipcommInt32, hipcommSum, comm, NULL), comm);
    CHECK(hipcommStreamSynchronize(comm, NULL), comm);
    expect_sum(recv, ranks, count, salt);
}

static void gather(hipcommComm_t comm, int rank, int world) {
    int32_t own[5], all[5 * 16];
    memset(all, 0x5a, sizeof all);
    for (int i = 0; i < 5; ++i) own[i] = value(rank, i, 7);
    CHECK(hipcommAllGather(own, all, 5, hipcommInt32, comm, NULL), comm);
    for (int r = 0; r < world; ++r)
        for (int i = 0; i < 5; ++i) EXPECT(all[5 * r + i] == value(r, i, 7));
    memset(all, 0x5a, sizeof all);
    CHECK(hipcommBroadcast(own, all, 5, hipcommInt32, world - 1, comm, NULL), comm);
    for (int i = 0; i < 5; ++i) EXPECT(all[i] == value(world - 1, i, 7));
    CHECK(hipcommBarrier(comm, NULL), comm);
}

static void message(hipcommComm_t comm, int rank, int world) {
    int32_t word = value(rank, 1, 9), got = -1;
    if (world < 2) return;
    CHECK(hipcommSend(&word, 1, hipcommInt32, (rank + 1) % world, comm, NULL), comm);
    CHECK(hipcommRecv(&got, 1, hipcommInt32, (rank + world - 1) % world, comm, NULL), comm);
    EXPECT(got == value((rank + world - 1) % world, 1, 9));
}

static int32_t* buffer(int parts) {
    int32_t* data = malloc((size_t)parts * COUNT * sizeof *data);
    EXPECT(data);
    return data;
}

/* Long messages from all to all at the same time. */
static void exchange(hipcommComm_t comm, int rank, int world) {
    int32_t *own = buffer(1), *all = buffer(world);
    memset(all, 0x5a, (size_t)world * COUNT * sizeof *all);
    fill(own, rank, 21);
    CHECK(hipcommGroupStart(), NULL);
    for (int r = 0; r < world; ++r) {
        if (r == rank) continue;
        CHECK(hipcommSend(own, COUNT, hipcommInt32, r, comm, NULL), comm);
        CHECK(hipcommRecv(all + (size_t)r * COUNT, COUNT, hipcommInt32, r, comm, NULL), comm);
    }
    CHECK(hipcommGroupEnd(), NULL);
    CHECK(hipcommStreamSynchronize(comm, NULL), comm);
    for (int r = 0; r < world; ++r)
        if (r != rank) expect_sum(all + (size_t)r * COUNT, &r, 1, 21);
    free(own);
    free(all);
}

static void use(hipcommComm_t comm) {
    int rank, world, device, everybody[16];
    hipcommComm_t part;
    void *first, *second;
    CHECK(hipcommUserRank(comm, &rank), comm);
    CHECK(hipcommCount(comm, &world), comm);
    CHECK(hipcommDevice(comm, &device), comm);
    for (int r = 0; r < world; ++r) everybody[r] = r;
    int32_t *data = buffer(1), *out = buffer(1);
    for (int salt = 0; salt < 5; ++salt) reduce(comm, data, salt % 2 ? data : out, rank, everybody, world, salt);
    gather(comm, rank, world);
    message(comm, rank, world);
    exchange(comm, rank, world);

    CHECK(hipcommMemAlloc(comm, &first, COUNT * sizeof *data), comm);
    CHECK(hipcommMemAlloc(comm, &second, 5 << 20), comm);
    EXPECT(first && second && first != second);
    reduce(comm, first, first, rank, everybody, world, 11);
    reduce(comm, second, first, rank, everybody, world, 12);
    CHECK(hipcommMemFree(comm, first), comm);
    EXPECT(hipcommMemFree(comm, first) == hipcommInvalidArgument);
    CHECK(hipcommMemFree(comm, second), comm);

    /* even and odd ranks, the last first; then all but rank 0 */
    int members[16], count = 0;
    for (int r = world - 1; r >= 0; --r)
        if (r % 2 == rank % 2) members[count++] = r;
    CHECK(hipcommSplit(comm, rank % 2, -rank, &part), comm);
    int number;
    CHECK(hipcommUserRank(part, &number), part);
    EXPECT(members[number] == rank);
    reduce(part, data, out, rank, members, count, 13);
    reduce(comm, data, out, rank, everybody, world, 14);
    CHECK(hipcommDestroy(part), NULL);
    CHECK(hipcommSplit(comm, rank ? 1 : HIPCOMM_NO_COLOR, 0, &part), comm);
    EXPECT((part == NULL) == (rank == 0));
    if (part) reduce(part, data, out, rank, everybody + 1, world - 1, 15);
    if (part) CHECK(hipcommDestroy(part), NULL);
    free(data);
    free(out);
}

static void end(hipcommComm_t comm) {
    int rank, world, word = 1;
    CHECK(hipcommUserRank(comm, &rank), comm);
    CHECK(hipcommCount(comm, &world), comm);
    CHECK(hipcommFinalize(comm), comm);
    EXPECT(hipcommAllReduce(&word, &word, 1, hipcommInt32, hipcommSum, comm, NULL) == hipcommInvalidArgument);
    EXPECT(strstr(hipcommGetLastError(comm), "finalized"));
    CHECK(hipcommFinalize(comm), comm);
    CHECK(hipcommDestroy(comm), NULL);
    printf("rank %d of %d: ok\n", rank, world);
    fflush(stdout);
}

static void by_id(const char* path, int rank, int world, int number) {
    hipcommUniqueId id;
    hipcommComm_t comm;
    char name[4096], temporary[4160];
    snprintf(name, sizeof name, "%s.%d", path, number);
    snprintf(temporary, sizeof temporary, "%s.new", name);
    if (rank == 0) {
        CHECK(hipcommGetUniqueId(&id), NULL);
        FILE* file = fopen(temporary, "wb");
        EXPECT(file && fwrite(&id, sizeof id, 1, file) == 1 && fclose(file) == 0 && rename(temporary, name) == 0);
    } else {
        FILE* file = NULL;
        for (int tries = 0; tries < 3000 && !file; ++tries) {
            file = fopen(name, "rb");
            if (!file) usleep(10000);
        }
        EXPECT(file && fread(&id, sizeof id, 1, file) == 1 && fclose(file) == 0);
    }
    hipcommSettings settings = HIPCOMM_SETTINGS_INITIALIZER;
    settings.timeout = 30.5;
    settings.algorithm = number == 1 ? "pipelined" : NULL;
    CHECK(hipcommInitRank(&comm, world, id, rank, &settings), NULL);
    use(comm);
    end(comm);
}

/* ---- an all-gather over shared memory --------------------------------------------------------------------------------*/

typedef struct Shared {
    pthread_barrier_t barrier;
    char parts[16][4096];
} Shared;

typedef struct Child {
    Shared* shared;
    int rank, world;
} Child;

static int all_gather(void* context, const void* send, void* recv, size_t bytes) {
    const Child* child = context;
    EXPECT(bytes <= sizeof child->shared->parts[0]);
    memcpy(child->shared->parts[child->rank], send, bytes);
    pthread_barrier_wait(&child->shared->barrier);
    for (int r = 0; r < child->world; ++r) memcpy((char*)recv + (size_t)r * bytes, child->shared->parts[r], bytes);
    pthread_barrier_wait(&child->shared->barrier);
    return 0;
}

static int by_bootstrap(int world) {
    Shared* shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_barrierattr_t attributes;
    EXPECT(shared != MAP_FAILED && pthread_barrierattr_init(&attributes) == 0);
    EXPECT(pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0);
    EXPECT(pthread_barrier_init(&shared->barrier, &attributes, (unsigned)world) == 0);
    for (int rank = 0; rank < world; ++rank) {
        if (fork() != 0) continue;
        Child child = {shared, rank, world};
        const hipcommBootstrap bootstrap = {sizeof bootstrap, &child, all_gather};
        hipcommComm_t comm;
        CHECK(hipcommInitBootstrap(&comm, world, rank, &bootstrap, NULL), NULL);
        use(comm);
        end(comm);
        exit(0);
    }
    int worst = 0, status;
    while (wait(&status) > 0)
        if (status != 0) worst = 5;
    return worst;
}

static void* use_in_thread(void* comm) {
    use(comm);
    return NULL;
}

static void as_threads(int world) {
    hipcommComm_t comms[16];
    pthread_t threads[16];
    CHECK(hipcommInitAll(comms, world, NULL, NULL), NULL);
    for (int r = 0; r < world; ++r) EXPECT(pthread_create(&threads[r], NULL, use_in_thread, comms[r]) == 0);
    for (int r = 0; r < world; ++r) EXPECT(pthread_join(threads[r], NULL) == 0);
    CHECK(hipcommDestroyAll(comms, world), NULL);
    for (int r = 0; r < world; ++r) printf("rank %d of %d: ok\n", r, world);
    const int twice[2] = {1, 1};
    EXPECT(hipcommInitAll(comms, 2, twice, NULL) == hipcommInvalidArgument);
    EXPECT(strstr(hipcommGetLastError(NULL), "same device") && !comms[0] && !comms[1]);
}

int main(int argc, char** argv) {
    int version = 0;
    EXPECT(argc > 1 && hipcommGetVersion(&version) == hipcommSuccess && version == HIPCOMM_VERSION);
    if (!strcmp(argv[1], "bootstrap")) return by_bootstrap(atoi(argv[2]));
    if (!strcmp(argv[1], "all")) as_threads(atoi(argv[2]));
    if (!strcmp(argv[1], "id")) by_id(argv[2], atoi(argv[3]), atoi(argv[4]), 0);
    for (int number = 0; number < 3 && !strcmp(argv[1], "ids"); ++number)
        by_id(argv[2], atoi(argv[3]), atoi(argv[4]), number);
    if (!strcmp(argv[1], "env")) {
        hipcommComm_t comm;
        CHECK(hipcommInit(&comm), NULL);
        use(comm);
        end(comm);
    }
    return 0;
}
