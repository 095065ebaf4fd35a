/* The floor under an all-reduce of two processes on a CPU whose messages lie in memory of their own: the copies
 * through shared memory and the additions that every such algorithm has to make, and nothing else. No checks, no
 * choice of algorithm, one type. bench/contestants/copies.py compiles and calls it.
 *
 * A chunk goes through a cell in three steps: copy the peer's half of it into the peer's cell; add what has come
 * in the own cell, and put the sum there as well as into the own result; copy the peer's sums out of its cell.
 * Of the chunk lengths from 16 KiB to 1 MiB this one was the fastest.
 */
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

enum { kChunk = 128 << 10, kCell = kChunk / 2, kLine = 64 };
enum { kLooksPerYield = 1 << 12, kPatience = 60 /* seconds */ };

/* What the two processes share; zero at first. */
struct Shared {
    _Alignas(2 * kLine) _Atomic uint64_t step[2][2 * kLine / sizeof(uint64_t)]; /* of each rank: in [0] */
    _Alignas(4096) char cell[2][2][kCell];                                      /* by turn, by reader */
};

size_t copies_shared_bytes(void) { return sizeof(struct Shared); }

/* Whether both ranks have come here; false if the other one does not. */
static bool meet(struct Shared* shared, int rank, uint64_t step) {
    atomic_store_explicit(&shared->step[rank][0], step, memory_order_release);
    const time_t started = time(NULL);
    for (uint64_t looks = 1; atomic_load_explicit(&shared->step[1 - rank][0], memory_order_acquire) < step; ++looks) {
        __builtin_ia32_pause();
        if (looks % kLooksPerYield != 0) continue;
        sched_yield(); /* the peer may be waiting for this core */
        if (time(NULL) - started > kPatience) return false;
    }
    return true;
}

static void add(float* sums, float* cell, const float* own, size_t count) {
#pragma GCC ivdep
    for (size_t i = 0; i < count; ++i) {
        const float sum = own[i] + cell[i];
        sums[i] = sum;
        cell[i] = sum;
    }
}

/* The sum of both ranks' `bytes` bytes of float32 at send, at recv, which may be send. `step` counts meetings:
 * where the last call left off, the same on both ranks. Returns the new one; 0 if the peer does not come. */
uint64_t copies_all_reduce(struct Shared* shared, int rank, const char* send, char* recv, size_t bytes, uint64_t step) {
    for (size_t begin = 0; begin < bytes; begin += kChunk) {
        const size_t length = bytes - begin < kChunk ? bytes - begin : kChunk;
        const size_t half = length / 2 / sizeof(float) * sizeof(float);
        const size_t from[2] = {begin, begin + half}, part[2] = {half, length - half};
        const int peer = 1 - rank, turn = (int)(begin / kChunk % 2);
        char* const own_cell = shared->cell[turn][rank];
        char* const peer_cell = shared->cell[turn][peer];
        memcpy(peer_cell, send + from[peer], part[peer]);
        if (!meet(shared, rank, ++step)) return 0;
        add((float*)(recv + from[rank]), (float*)own_cell, (const float*)(send + from[rank]), part[rank] / sizeof(float));
        if (!meet(shared, rank, ++step)) return 0;
        memcpy(recv + from[peer], peer_cell, part[peer]);
    }
    return step;
}
