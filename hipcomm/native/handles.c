#include "handles.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

enum { kHandlesOfBlock = 16, kKept = 64 };

/* Blocks are added at the end and never freed. No locks: calls come from signal handlers, and from children that were
 * forked while another thread was in here. */
typedef struct Block {
    _Atomic(hipcommComm_t) handles[kHandlesOfBlock];
    _Atomic(struct Block*) next;
} Block;

static Block first_block;
static atomic_uint_fast64_t endings = 1; /* how many communicators have ended, and one */

static _Atomic(hipcommComm_t) kept[kKept]; /* memory of communicators that have ended */

static bool exchange_handle(hipcommComm_t from, hipcommComm_t to, bool may_add) {
    for (Block* block = &first_block; block;) {
        for (int i = 0; i < kHandlesOfBlock; ++i) {
            hipcommComm_t expected = from;
            if (atomic_compare_exchange_strong(&block->handles[i], &expected, to)) return true;
        }
        Block* next = atomic_load(&block->next);
        if (!next && may_add) {
            Block* added = calloc(1, sizeof *added);
            if (!added) return false;
            if (atomic_compare_exchange_strong(&block->next, &next, added))
                next = added;
            else
                free(added); /* another thread was faster; `next` is its block */
        }
        block = next;
    }
    return false;
}

bool handle_begins(hipcommComm_t comm) { return exchange_handle(NULL, comm, true); }

void handle_ends(hipcommComm_t comm) {
    const uint64_t number = atomic_fetch_add(&endings, 1);
    exchange_handle(comm, NULL, false);
    atomic_fetch_add(&endings, 1); /* threads that have looked in between look again */
    free(atomic_exchange(&kept[number / 2 % kKept], comm));
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
