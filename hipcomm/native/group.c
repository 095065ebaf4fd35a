/* The messages of a group go in lanes, one for each channel (a communicator, a direction and a peer): one after the other
 * within a lane, and all lanes at the same time. Where a device runs kernels side by side, a lane is a stream of the
 * communicator's own, between two events. Where it does not, since a launch is the kernel's run in the calling thread, a
 * lane is a thread. */
#include "group.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "current_device.h"
#include "failure.h"
#include "waiting.h"

typedef struct Queued {
    hipcommComm_t comm;
    hipStream_t stream;
    hipcommPlan plan;
    hipcommKernelArgs args;
} Queued;

static _Thread_local struct {
    int depth;
    Queued* messages; /* in the order of the calls */
    size_t count, capacity;
} group;

bool is_in_group(void) { return group.depth > 0; }

hipcommResult_t add_to_group(hipcommComm_t comm, const hipcommPlan* plan, const hipcommKernelArgs* args,
                             hipStream_t stream) {
    for (size_t i = 0; i < group.count; ++i)
        if (group.messages[i].comm == comm && group.messages[i].stream != stream)
            return set_error(comm, hipcommInvalidArgument,
                             "rank %u: a group's messages on one communicator are on one stream", comm->args.rank);
    if (group.count == group.capacity) {
        const size_t capacity = 2 * group.capacity + 8;
        Queued* grown = realloc(group.messages, capacity * sizeof *grown);
        if (!grown) return set_error(comm, hipcommOutOfMemory, "rank %u: no memory for the group", comm->args.rank);
        group.messages = grown;
        group.capacity = capacity;
    }
    group.messages[group.count++] = (Queued){comm, stream, *plan, *args};
    return hipcommSuccess;
}

/* ---- lanes ---------------------------------------------------------------------------------------------------------*/

typedef struct LaneRun {
    const Queued* first; /* of its channel's messages; the others follow somewhere behind it */
    const Queued* end;
    hipStream_t stream;
    hipError_t error;
    const char* function; /* that failed */
    pthread_t thread;
} LaneRun;

static bool is_same_channel(const Queued* a, const Queued* b) {
    return a->comm == b->comm && a->args.operation == b->args.operation && a->args.root == b->args.root;
}

/* A communicator's lane of a channel: sends first, then receives, by peer. */
static Lane* lane_of(const Queued* message) {
    const uint32_t direction = message->args.operation == hipcommOpSend ? 0 : HIPCOMM_MAX_RANKS;
    return &message->comm->lanes[direction + message->args.root];
}

static void note(LaneRun* lane, const char* function, hipError_t error) {
    if (error == hipSuccess || lane->error != hipSuccess) return;
    lane->error = error;
    lane->function = function;
}

static void launch_messages(LaneRun* lane) {
    for (const Queued* each = lane->first; each < lane->end && lane->error == hipSuccess; ++each) {
        if (!is_same_channel(each, lane->first)) continue;
        hipcommKernelArgs args = each->args;
        void* parameters[] = {&args};
        note(lane, "hipModuleLaunchKernel",
             each->comm->hip.ModuleLaunchKernel(each->comm->functions[each->plan.kernel], each->plan.blocks, 1, 1,
                                                each->plan.threads, 1, 1, each->plan.shared_bytes, lane->stream,
                                                parameters, NULL));
    }
}

static void* run_lane(void* context) {
    LaneRun* lane = context;
    note(lane, "hipSetDevice", lane->first->comm->hip.SetDevice(lane->first->comm->device));
    launch_messages(lane);
    return NULL;
}

/* Between the caller's stream before and after. */
static void enqueue_lane(LaneRun* lane) {
    const Queued* message = lane->first;
    const HipApi* hip = &message->comm->hip;
    Lane* own = lane_of(message);
    note(lane, "hipSetDevice", hip->SetDevice(message->comm->device));
    if (!own->stream) note(lane, "hipStreamCreateWithFlags", hip->StreamCreateWithFlags(&own->stream, hipStreamNonBlocking));
    if (!own->mark) note(lane, "hipEventCreateWithFlags", hip->EventCreateWithFlags(&own->mark, hipEventDisableTiming));
    if (lane->error == hipSuccess) note(lane, "hipEventRecord", hip->EventRecord(own->mark, message->stream));
    if (lane->error == hipSuccess) note(lane, "hipStreamWaitEvent", hip->StreamWaitEvent(own->stream, own->mark, 0));
    lane->stream = own->stream;
    launch_messages(lane);
    if (lane->error == hipSuccess) note(lane, "hipEventRecord", hip->EventRecord(own->mark, own->stream));
    if (lane->error == hipSuccess) note(lane, "hipStreamWaitEvent", hip->StreamWaitEvent(message->stream, own->mark, 0));
}

hipError_t free_lanes(hipcommComm_t comm) {
    hipError_t first = hipSuccess;
    for (int i = 0; i < 2 * HIPCOMM_MAX_RANKS; ++i) {
        Lane* lane = &comm->lanes[i];
        hipError_t error = lane->mark ? comm->hip.EventDestroy(lane->mark) : hipSuccess;
        if (first == hipSuccess) first = error;
        error = lane->stream ? comm->hip.StreamDestroy(lane->stream) : hipSuccess;
        if (first == hipSuccess) first = error;
        *lane = (Lane){NULL, NULL};
    }
    return first;
}

/* ---- all of them ---------------------------------------------------------------------------------------------------*/

/* The first message of each channel makes a lane. */
static size_t make_lanes(LaneRun* lanes) {
    size_t count = 0;
    for (size_t i = 0; i < group.count; ++i) {
        size_t known = 0;
        while (known < count && !is_same_channel(lanes[known].first, &group.messages[i])) ++known;
        if (known == count)
            lanes[count++] = (LaneRun){.first = &group.messages[i], .end = group.messages + group.count,
                                       .stream = group.messages[i].stream};
    }
    return count;
}

/* The others first, and one in this thread, which hears of interrupts; then what is left of the wait. */
static void run_side_by_side(LaneRun* lanes, size_t count) {
    sigset_t all, before;
    size_t started = 1;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the program's */
    for (int error = 0; started < count && !error; started += !error)
        error = pthread_create(&lanes[started].thread, NULL, run_lane, &lanes[started]);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (started < count) { /* what is missing would be waited for in vain */
        for (size_t i = 0; i < count; ++i)
            hipcommCommAbort(lanes[i].first->comm, hipcommPlatformError, -1, "a thread for a group cannot be started");
    }
    run_lane(&lanes[0]);
    for (size_t i = 1; i < started; ++i) wait_for_thread(lanes[i].first->comm, lanes[i].thread);
}

/* The message that stands for its communicator: its first. */
static bool is_first_of_comm(size_t index) {
    for (size_t i = 0; i < index; ++i)
        if (group.messages[i].comm == group.messages[index].comm) return false;
    return true;
}

typedef hipcommResult_t (*StreamStep)(hipcommComm_t comm, hipStream_t stream, bool* capturing);

static hipcommResult_t enter(hipcommComm_t comm, hipStream_t stream, bool* capturing) {
    hipcommResult_t result = check_not_waiting(comm);
    if (result == hipcommSuccess) result = enter_stream(comm, stream, capturing);
    if (result != hipcommSuccess || comm->runs_side_by_side || !is_captured(comm, stream)) return result;
    return set_error(comm, hipcommInvalidArgument,
                     "rank %u: a group cannot be captured on this platform, where graphs run one kernel after the other",
                     comm->args.rank);
}
static hipcommResult_t leave(hipcommComm_t comm, hipStream_t stream, bool* capturing) {
    return leave_stream(comm, stream, *capturing);
}

/* For each communicator, on its device. */
static hipcommResult_t step_all(StreamStep step, bool* capturing) {
    for (size_t i = 0; i < group.count; ++i) {
        if (!is_first_of_comm(i)) continue;
        hipcommComm_t comm = group.messages[i].comm;
        int before;
        hipcommResult_t result = enter_call(comm, group.messages[i].stream, &before);
        if (result == hipcommSuccess)
            result = leave_call(comm, group.messages[i].stream, before,
                                step(comm, group.messages[i].stream, &capturing[i]));
        if (result != hipcommSuccess) return set_error(NULL, result, "%s", comm->error);
    }
    return hipcommSuccess;
}

static hipcommResult_t check_all(void) {
    for (size_t i = 0; i < group.count; ++i) {
        const hipcommResult_t result = check_health(group.messages[i].comm);
        if (result != hipcommSuccess) return set_error(NULL, result, "%s", group.messages[i].comm->error);
    }
    return hipcommSuccess;
}

static hipcommResult_t launch_all(LaneRun* lanes, bool* capturing) {
    hipcommComm_t const any = group.messages[0].comm;
    int before;
    hipcommResult_t result = check_all();
    if (result == hipcommSuccess) result = step_all(enter, capturing);
    if (result == hipcommSuccess) result = enter_call(any, group.messages[0].stream, &before);
    if (result != hipcommSuccess) return result;
    const size_t count = make_lanes(lanes);
    if (!any->runs_side_by_side)
        run_side_by_side(lanes, count);
    else
        for (size_t i = 0; i < count; ++i) enqueue_lane(&lanes[i]);
    result = any->hip.SetDevice(before) == hipSuccess ? hipcommSuccess : hipcommPlatformError;
    for (size_t i = 0; i < count; ++i) {
        if (lanes[i].error == hipSuccess) continue;
        hipcommComm_t comm = lanes[i].first->comm;
        result = hip_error_in_call(comm, lanes[i].function, lanes[i].error, lanes[i].first->stream);
        return set_error(NULL, result, "%s", comm->error);
    }
    if (result != hipcommSuccess) return set_error(NULL, result, "hipSetDevice failed after a group");
    result = step_all(leave, capturing);
    return result == hipcommSuccess ? check_all() : result; /* where launches are synchronous, a failure is the group's */
}

static void forget_messages(void) {
    free(group.messages);
    group.messages = NULL;
    group.count = group.capacity = 0;
}

hipcommResult_t hipcommGroupStart(void) {
    ++group.depth;
    return hipcommSuccess;
}

hipcommResult_t hipcommGroupCancel(void) {
    group.depth = 0;
    forget_messages();
    return hipcommSuccess;
}

hipcommResult_t hipcommGroupEnd(void) {
    if (group.depth == 0) return set_error(NULL, hipcommInvalidArgument, "hipcommGroupEnd() without hipcommGroupStart()");
    if (--group.depth > 0 || group.count == 0) return hipcommSuccess;
    for (size_t i = 0; i < group.count; ++i)
        if (!is_live(group.messages[i].comm)) {
            forget_messages();
            return no_comm();
        }
    LaneRun* lanes = calloc(group.count, sizeof *lanes);
    bool* capturing = calloc(group.count, sizeof *capturing);
    const hipcommResult_t result = lanes && capturing
                                       ? launch_all(lanes, capturing)
                                       : set_error(NULL, hipcommOutOfMemory, "no memory for the group");
    free(lanes);
    free(capturing);
    forget_messages();
    return result;
}
