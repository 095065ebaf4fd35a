/* The status page: pinned host memory, mapped into the device. The host tells kernels to leave; a kernel that gives
 * up says why.
 */
#ifndef HIPCOMM_ABI_STATUS_H
#define HIPCOMM_ABI_STATUS_H

#include <stdint.h>

#include "faults.def"

/* Values of hipcommStatus.abort. Others: 1 + the rank that was lost. */
#define HIPCOMM_ABORT_NONE 0u
#define HIPCOMM_ABORT_JOB 0xffffffffu

enum hipcommFaultKind {
#define FAULT_KIND(NAME, number, ...) HIPCOMM_FAULT_##NAME = number,
    HIPCOMM_FAULTS(FAULT_KIND)
#undef FAULT_KIND
};

/* One rank's side of a call that was checked. `call` is operation | dtype << 8 | reduction << 16 |
 * root << 24 | details << 32, a hash of what else has to be equal. sent and received are the bytes of the pair, where
 * each pair has its own; where messages lie in rows, the elements of one. */
typedef struct hipcommCheckedCall {
    uint64_t call;
    uint64_t count;
    uint64_t sent;
    uint64_t received;
} hipcommCheckedCall;

/* abort and fault share one aligned 64-bit word: a waiting kernel looks at both with one load. */
typedef struct hipcommStatus {
    uint32_t abort; /* host -> kernels: leave */
    uint32_t fault; /* kernels -> host: enum hipcommFaultKind, written last */
    uint32_t operation;
    uint32_t algorithm;
    uint32_t peer;
    uint32_t epoch; /* of send and recv: the message's number */
    uint32_t peer_algorithm; /* of a mismatch */
    uint32_t left; /* host -> kernels: bit r: rank r makes no more calls, in good order */
    uint64_t waited_ticks;
    uint64_t checked_calls;        /* of differing calls: which call this is, counted from 1 */
    uint64_t sent_bytes;           /* of a message: the extent that its sender has sent (slabs.h) */
    uint64_t expected_bytes;       /* and that its receiver has expected */
    uint32_t ranks[2];             /* and the two ranks */
    hipcommCheckedCall calls[2];   /* and what each of them calls */
    /* kernels -> host, at each look up of a wait: for people who ask what a job is stuck in */
    uint64_t wait_what;   /* epoch << 32 | operation << 16 | algorithm << 8 | the rank that is waited for */
    uint64_t wait_ticks;  /* how long by now */
    uint64_t wait_looked; /* when that was; 0: there was no long wait yet */
    uint64_t host_look;            /* for kernels that run on the host, which waits for them: a function of the host, */
    uint64_t host_context;         /* void (*)(uint64_t), and what it is given; or 0 */
} hipcommStatus;

#endif
