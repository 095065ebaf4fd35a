/* The functions of hipcomm.h with which ranks come together and part. */
#include <stdio.h>

#include "errors.h"
#include "session.h"

/* ---- making communicators ------------------------------------------------------------------------------------------*/

hipcommResult_t hipcommInitSettings(hipcommComm_t* comm, const hipcommSettings* given) {
    if (!comm) return no_comm();
    *comm = NULL;
    Settings settings;
    Identity identity;
    hipcommResult_t result = read_settings(given, &settings);
    if (result == hipcommSuccess) result = read_identity(&identity);
    return result == hipcommSuccess ? session_join(&identity, &settings, NULL, 0, comm) : result;
}

hipcommResult_t hipcommInit(hipcommComm_t* comm) { return hipcommInitSettings(comm, NULL); }

/* ---- a communicator's life -----------------------------------------------------------------------------------------*/

/* hipcommInvalidArgument for a communicator that this library has not joined, or has left. */
static hipcommResult_t check_member(hipcommComm_t comm, const char* operation) {
    if (!is_live(comm)) return no_comm();
    if (!comm->session)
        return set_error(comm, hipcommInvalidArgument,
                         "rank %u: %s: the communicator was made by hipcommCommCreate(), whose caller does this",
                         comm->args.rank, operation);
    if (comm->session->is_over)
        return set_error(comm, hipcommInvalidArgument, "rank %u: %s: the communicator is finalized", comm->args.rank,
                         operation);
    return hipcommSuccess;
}

hipcommResult_t hipcommFinalize(hipcommComm_t comm) {
    if (is_live(comm) && comm->session && comm->session->is_over) return hipcommSuccess;
    const hipcommResult_t result = check_member(comm, "finalize");
    return result == hipcommSuccess ? hand_out(comm, session_end(comm->session)) : result;
}

hipcommResult_t hipcommDestroy(hipcommComm_t comm) {
    if (!comm) return hipcommSuccess;
    if (!is_live(comm)) return no_comm();
    if (!comm->session) return hipcommCommDestroy(comm);
    Session* session = comm->session;
    const KeptError first = keep_error(session_end(session));
    return first_error(&first, session_destroy(session));
}

hipcommResult_t hipcommAbort(hipcommComm_t comm, const char* reason) {
    const hipcommResult_t result = check_member(comm, "abort");
    if (result != hipcommSuccess) return result;
    char text[64];
    snprintf(text, sizeof text, "rank %u has called hipcommAbort", comm->args.rank);
    session_abort(comm->session, reason ? reason : text, hipcommSuccess);
    return hipcommSuccess;
}

/* What every function below needs, around what it does. */
#define ON_DEVICE(comm, operation, what)                                              \
    do {                                                                              \
        int before;                                                                   \
        hipcommResult_t result = check_member(comm, operation);                       \
        if (result != hipcommSuccess) return result;                                  \
        result = check_health(comm);                                                  \
        if (result != hipcommSuccess) return result;                                  \
        result = enter_device(&(comm)->session->device, &before);                     \
        if (result == hipcommSuccess) {                                               \
            const KeptError first = keep_error(what);                                 \
            result = first_error(&first, leave_device(before, hipcommSuccess));       \
        }                                                                             \
        return hand_out(comm, result);                                                \
    } while (0)

hipcommResult_t hipcommSplit(hipcommComm_t comm, int64_t color, int64_t key, hipcommComm_t* part) {
    if (is_live(comm) && !part) return set_error(comm, hipcommInvalidArgument, "rank %u: split: part is NULL", comm->args.rank);
    if (part) *part = NULL;
    ON_DEVICE(comm, "split", session_split(comm->session, color != HIPCOMM_NO_COLOR, color, key, part));
}

hipcommResult_t hipcommMemAlloc(hipcommComm_t comm, void** memory, size_t bytes) {
    if (is_live(comm) && !memory)
        return set_error(comm, hipcommInvalidArgument, "rank %u: empty: memory is NULL", comm->args.rank);
    if (memory) *memory = NULL;
    ON_DEVICE(comm, "empty", heap_allocate(&comm->session->heap, bytes, memory));
}

hipcommResult_t hipcommMemFree(hipcommComm_t comm, void* memory) {
    ON_DEVICE(comm, "free", heap_free(&comm->session->heap, memory));
}

hipcommResult_t hipcommRegister(hipcommComm_t comm, void* memory, size_t bytes) {
    ON_DEVICE(comm, "register", register_memory(&comm->session->registrations, memory, bytes));
}

hipcommResult_t hipcommDeregister(hipcommComm_t comm, void* memory) {
    ON_DEVICE(comm, "deregister", deregister_memory(&comm->session->registrations, memory));
}

/* ---- what one may ask ----------------------------------------------------------------------------------------------*/

static hipcommResult_t answer(hipcommComm_t comm, int value, int* out) {
    if (!out) return set_error(comm, hipcommInvalidArgument, "the place for the answer is NULL");
    *out = value;
    return hipcommSuccess;
}

hipcommResult_t hipcommCount(hipcommComm_t comm, int* count) {
    return is_live(comm) ? answer(comm, (int)comm->args.world, count) : no_comm();
}
hipcommResult_t hipcommUserRank(hipcommComm_t comm, int* rank) {
    return is_live(comm) ? answer(comm, (int)comm->args.rank, rank) : no_comm();
}
hipcommResult_t hipcommDevice(hipcommComm_t comm, int* device) {
    return is_live(comm) ? answer(comm, comm->device, device) : no_comm();
}
hipcommResult_t hipcommGetVersion(int* version) { return answer(NULL, HIPCOMM_VERSION, version); }
