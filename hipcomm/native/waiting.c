#include "waiting.h"

#include <sched.h>
#include <stdio.h>
#include <time.h>

#include "../abi/slabs.h"
#include "failure.h"
#include "tables.h"

#define LOOK_SECONDS 0.05     /* between two questions whether to go on */
#define SPIN_SECONDS 0.02     /* a stream that takes longer is looked at less often */
#define SLEEP_NANOSECONDS 50000
#define LOOK_STEPS 25             /* in which a wait that goes on has looked up */
#define LOOK_STEP_NANOSECONDS 20000000
#define LEAVE_SECONDS 1.0     /* for kernels to leave, once they have been called off */

static _Thread_local hipcommComm_t asking; /* whose call waits while the interrupt function runs */

/* Ask whether to go on waiting; false: the communicator has failed. */
static bool look(hipcommComm_t comm) {
    hipcommComm_t const outer = asking;
    asking = comm;
    const bool goes_on = !comm->interrupt(comm->interrupt_context);
    asking = outer;
    if (goes_on) return true;
    char message[64];
    snprintf(message, sizeof message, "rank %u: its program has ended the wait", comm->args.rank);
    hipcommCommAbort(comm, hipcommPeerDied, (int)comm->args.rank, message);
    return false;
}

/* As kernels on the CPU call it: hipcommStatus.host_look. They look at the abort word next. */
static void look_from_kernel(uint64_t comm) { look((hipcommComm_t)(uintptr_t)comm); }

hipcommResult_t check_not_waiting(hipcommComm_t comm) {
    if (asking != comm) return hipcommSuccess;
    return set_error(comm, hipcommInvalidArgument,
                     "rank %u: a signal handler makes a call while the thread waits in a call on this communicator",
                     comm->args.rank);
}

hipcommResult_t hipcommCommSetInterrupt(hipcommComm_t comm, hipcommInterruptFunction function, void* context) {
    if (!is_live(comm)) return no_comm();
    comm->interrupt = function;
    comm->interrupt_context = context;
    comm->status->host_context = (uint64_t)(uintptr_t)comm;
    comm->status->host_look = function ? (uint64_t)(uintptr_t)look_from_kernel : 0;
    return hipcommSuccess;
}

/* Whether a wait has looked up since it did `before`; false: not within half a second. */
static bool looks_up(const hipcommStatus* status, uint64_t before) {
    for (int step = 0; step < LOOK_STEPS; ++step) {
        nanosleep(&(struct timespec){.tv_nsec = LOOK_STEP_NANOSECONDS}, NULL);
        if (__atomic_load_n(&status->wait_looked, __ATOMIC_RELAXED) != before) return true;
    }
    return false;
}

hipcommResult_t hipcommCommDescribeWait(hipcommComm_t comm, char* text, size_t size) {
    if (!comm || !text || size == 0) return hipcommInvalidArgument;
    const hipcommStatus* status = comm->status;
    *text = 0;
    const uint64_t looked = __atomic_load_n(&status->wait_looked, __ATOMIC_RELAXED);
    if (looked == 0 || !looks_up(status, looked)) return hipcommSuccess;
    const uint64_t what = __atomic_load_n(&status->wait_what, __ATOMIC_RELAXED);
    const Operation* operation = operation_row(what >> 16 & 0xff);
    snprintf(text, size, "%s (%s %u, %s) for rank %u, for %.1f s", operation->name,
             operation->bytes == kBytesMessage ? "message" : "call", (uint32_t)(what >> 32) - HIPCOMM_FIRST_EPOCH + 1,
             algorithm_name((uint32_t)(what >> 8 & 0xff)), (uint32_t)(what & 0xff),
             (double)__atomic_load_n(&status->wait_ticks, __ATOMIC_RELAXED) / comm->ticks_per_second);
    return hipcommSuccess;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

hipError_t wait_for_stream(hipcommComm_t comm, hipStream_t stream) {
    if (!comm->interrupt) return comm->hip.StreamSynchronize(stream);
    const double began = seconds();
    double looked = began, left_at = 0;
    for (;;) {
        const hipError_t error = comm->hip.StreamQuery(stream);
        if (error == hipSuccess) return hipSuccess;
        if (error != hipErrorNotReady) return comm->hip.StreamSynchronize(stream); /* the error is its own to report */
        const double now = seconds();
        if (!left_at && now - looked > LOOK_SECONDS) {
            if (!look(comm)) left_at = now;
            looked = now;
        }
        if (left_at && now - left_at > LEAVE_SECONDS) return hipSuccess; /* work that is not ours */
        if (now - began < SPIN_SECONDS)
            sched_yield();
        else
            nanosleep(&(struct timespec){.tv_nsec = SLEEP_NANOSECONDS}, NULL);
    }
}

void wait_for_thread(hipcommComm_t comm, pthread_t thread) {
    for (bool goes_on = comm->interrupt != NULL; goes_on; goes_on = look(comm)) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += (long)(LOOK_SECONDS * 1e9);
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        if (pthread_timedjoin_np(thread, NULL, &until) == 0) return;
    }
    pthread_join(thread, NULL); /* its kernels end by their time-out, or because the communicator has failed */
}
