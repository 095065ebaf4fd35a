#include "handles.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

enum { kHandlesOfBlock = 16, kKept = 64 };

/* Blocks are added at the end and never freed. No locks: calls come from signal handlers, and from children that were
 * forked while another thread was in here. */
typedef struct Block {
    _Atomic(hipcommComm_t) handles[kHandlesOfBlock];
    atomic_uint_fast64_t numbers[kHandlesOfBlock]; /* 0: not the number of any */
    _Atomic(struct Block*) next;
} Block;

static Block first_block;
static atomic_uint_fast64_t beginnings;
static atomic_uint_fast64_t endings = 1; /* how many communicators have ended, and one */

static _Atomic(hipcommComm_t) kept[kKept]; /* memory of communicators that have ended */

/* The block behind `block`, which is made if there is none; NULL: no memory. */
static Block* next_or_new(Block* block) {
    Block* next = atomic_load(&block->next);
    if (next) return next;
    Block* added = calloc(1, sizeof *added);
    if (!added || atomic_compare_exchange_strong(&block->next, &next, added)) return added;
    free(added); /* another thread was faster; `next` is its block */
    return next;
}

bool handle_begins(hipcommComm_t comm) {
    for (Block* block = &first_block; block; block = next_or_new(block))
        for (int i = 0; i < kHandlesOfBlock; ++i) {
            hipcommComm_t none = NULL;
            if (!atomic_compare_exchange_strong(&block->handles[i], &none, comm)) continue;
            atomic_store(&block->numbers[i], atomic_fetch_add(&beginnings, 1) + 1);
            return true;
        }
    return false;
}

void handle_ends(hipcommComm_t comm) {
    const uint64_t number = atomic_fetch_add(&endings, 1);
    for (Block* block = &first_block; block; block = atomic_load(&block->next))
        for (int i = 0; i < kHandlesOfBlock; ++i) {
            if (atomic_load(&block->handles[i]) != comm) continue;
            atomic_store(&block->numbers[i], 0);
            atomic_store(&block->handles[i], NULL);
        }
    atomic_fetch_add(&endings, 1); /* threads that have looked in between look again */
    free(atomic_exchange(&kept[number / 2 % kKept], comm));
}

uint64_t hipcommCommNumber(hipcommComm_t comm) {
    for (Block* block = &first_block; comm && block; block = atomic_load(&block->next))
        for (int i = 0; i < kHandlesOfBlock; ++i)
            if (atomic_load(&block->handles[i]) == comm) return atomic_load(&block->numbers[i]);
    return 0;
}

hipcommComm_t hipcommCommOfNumber(uint64_t number) {
    for (Block* block = &first_block; number && block; block = atomic_load(&block->next))
        for (int i = 0; i < kHandlesOfBlock; ++i) {
            if (atomic_load(&block->numbers[i]) != number) continue;
            const hipcommComm_t comm = atomic_load(&block->handles[i]);
            if (atomic_load(&block->numbers[i]) == number) return comm; /* it has not ended in between */
        }
    return NULL;
}

static bool is_listed(hipcommComm_t comm) {
    for (Block* block = &first_block; block; block = atomic_load(&block->next))
        for (int i = 0; i < kHandlesOfBlock; ++i)
            if (atomic_load(&block->handles[i]) == comm) return true;
    return false;
}

bool is_live(hipcommComm_t comm) {
    /* what this thread has found last, valid until another communicator ends */
    static _Thread_local hipcommComm_t found;
    static _Thread_local uint64_t found_at;
    const uint64_t now = atomic_load_explicit(&endings, memory_order_acquire);
    if (comm == found && now == found_at) return true;
    if (!comm || !is_listed(comm)) return false;
    found = comm;
    found_at = now;
    return true;
}
