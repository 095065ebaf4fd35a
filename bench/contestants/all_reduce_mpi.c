/* hipcomm's C API and MPI's, one after the other in the same processes: an all-reduce of float32, for
 * bench/c_mpi.py, which compiles it with an MPI's mpicc.
 *
 * all_reduce_mpi MIN MAX FACTOR SECONDS: of each power of FACTOR from MIN to MAX bytes rank 0 prints the bytes, the
 * nanoseconds of a call by hipcomm on plain memory, by hipcomm on symmetric memory and by MPI, and how many elements
 * were wrong. Every call is timed by itself; a time is the largest of the ranks' medians. The contestants take turns
 * of a few calls, so that what else the machine does meets all of them. Out of place. */
#include <hipcomm.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { kPlain, kSymmetric, kMpi, kContestants };
enum { kTurns = 20, kMostCalls = 250 /* of a turn */ };

typedef struct Buffers {
    float *send, *recv;
} Buffers;

static int rank, world;
static hipcommComm_t comm;
static Buffers buffers[kContestants];
static double times[kContestants][kTurns * kMostCalls];

static void check(hipcommResult_t result) {
    if (result == hipcommSuccess) return;
    const char* error = hipcommGetLastError(comm);
    fprintf(stderr, "rank %d: %s\n", rank, error && *error ? error : hipcommGetLastError(NULL));
    MPI_Abort(MPI_COMM_WORLD, 1);
}

static void* must(void* memory) {
    if (memory) return memory;
    fprintf(stderr, "rank %d: out of memory\n", rank);
    MPI_Abort(MPI_COMM_WORLD, 1);
    return NULL;
}

static int all_gather(void* context, const void* send, void* recv, size_t bytes) {
    (void)context;
    return MPI_Allgather(send, (int)bytes, MPI_BYTE, recv, (int)bytes, MPI_BYTE, MPI_COMM_WORLD) != MPI_SUCCESS;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return 1e9 * (double)time.tv_sec + (double)time.tv_nsec;
}

static void call(int contestant, size_t count) {
    const Buffers* const own = &buffers[contestant];
    if (contestant == kMpi) {
        if (MPI_Allreduce(own->send, own->recv, (int)count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD) != MPI_SUCCESS)
            MPI_Abort(MPI_COMM_WORLD, 1);
    } else {
        check(hipcommAllReduce(own->send, own->recv, count, hipcommFloat32, hipcommSum, comm, NULL));
        check(hipcommStreamSynchronize(comm, NULL));
    }
}

/* Whole numbers, whose sums are exact in any order. */
static float value(int of, size_t index, size_t count) { return (float)((index * 7 + (size_t)of * 13 + count) % 97); }

static long wrong(int contestant, size_t count) {
    const Buffers* const own = &buffers[contestant];
    for (size_t i = 0; i < count; ++i) own->send[i] = value(rank, i, count), own->recv[i] = -1;
    call(contestant, count);
    long bad = 0;
    for (size_t i = 0; i < count; ++i) {
        float sum = 0;
        for (int of = 0; of < world; ++of) sum += value(of, i, count);
        bad += own->recv[i] != sum;
    }
    return bad;
}

static int compare(const void* left, const void* right) {
    const double a = *(const double*)left, b = *(const double*)right;
    return (a > b) - (a < b);
}

static double timed(int contestant, size_t count) {
    const double began = now();
    call(contestant, count);
    return now() - began;
}

static void measure(size_t bytes, double budget) {
    const size_t count = bytes / sizeof(float);
    long bad = 0;
    double slowest = 0;
    for (int contestant = 0; contestant < kContestants; ++contestant) {
        bad += wrong(contestant, count);
        const double once = timed(contestant, count);
        slowest = once > slowest ? once : slowest;
    }
    double turn = budget / (kContestants * kTurns) / slowest; /* calls */
    MPI_Allreduce(MPI_IN_PLACE, &turn, 1, MPI_DOUBLE, MPI_MIN, MPI_COMM_WORLD);
    const int calls = turn < 1 ? 1 : turn > kMostCalls ? kMostCalls : (int)turn;
    for (int round = 0; round < kTurns; ++round) {
        for (int contestant = 0; contestant < kContestants; ++contestant) {
            MPI_Barrier(MPI_COMM_WORLD);
            call(contestant, count);
            for (int i = 0; i < calls; ++i) times[contestant][round * calls + i] = timed(contestant, count);
        }
    }
    double medians[kContestants];
    for (int contestant = 0; contestant < kContestants; ++contestant) {
        bad += wrong(contestant, count);
        const size_t all = (size_t)(kTurns * calls);
        qsort(times[contestant], all, sizeof times[contestant][0], compare);
        medians[contestant] = times[contestant][all / 2];
    }
    MPI_Allreduce(MPI_IN_PLACE, medians, kContestants, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    MPI_Allreduce(MPI_IN_PLACE, &bad, 1, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    if (rank == 0) {
        printf("%zu %.0f %.0f %.0f %ld\n", bytes, medians[kPlain], medians[kSymmetric], medians[kMpi], bad);
        fflush(stdout);
    }
}

int main(int argc, char** argv) {
    if (argc != 5) return fprintf(stderr, "usage: all_reduce_mpi MIN MAX FACTOR SECONDS\n"), 2;
    const size_t least = strtoul(argv[1], NULL, 10), most = strtoul(argv[2], NULL, 10);
    const size_t factor = strtoul(argv[3], NULL, 10);
    hipcommBootstrap bootstrap = HIPCOMM_BOOTSTRAP_INITIALIZER;
    bootstrap.all_gather = all_gather;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &world);
    check(hipcommInitBootstrap(&comm, world, rank, &bootstrap, NULL));
    for (int contestant = 0; contestant < kContestants; ++contestant) {
        void *send, *recv;
        if (contestant == kSymmetric) {
            check(hipcommMemAlloc(comm, &send, most));
            check(hipcommMemAlloc(comm, &recv, most));
        } else {
            send = must(aligned_alloc(4096, (most + 4095) / 4096 * 4096));
            recv = must(aligned_alloc(4096, (most + 4095) / 4096 * 4096));
        }
        memset(send, 1, most), memset(recv, 1, most); /* pages that are there */
        buffers[contestant] = (Buffers){send, recv};
    }
    if (rank == 0) {
        char version[MPI_MAX_LIBRARY_VERSION_STRING];
        int length;
        MPI_Get_library_version(version, &length);
        printf("%.*s\n", (int)strcspn(version, "\n,"), version);
    }
    for (size_t bytes = least; bytes <= most; bytes *= factor) measure(bytes, 1e9 * strtod(argv[4], NULL));
    check(hipcommDestroy(comm));
    return MPI_Finalize() != MPI_SUCCESS;
}
