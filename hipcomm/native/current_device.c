#include "current_device.h"

#include "failure.h"

hipError_t make_current(hipcommComm_t comm, int* before) {
    const hipError_t error = comm->hip.GetDevice(before);
    return error == hipSuccess && *before != comm->device ? comm->hip.SetDevice(comm->device) : error;
}

hipError_t restore_current(hipcommComm_t comm, int before, hipError_t error) {
    if (before == comm->device) return error;
    const hipError_t restored = comm->hip.SetDevice(before);
    return error == hipSuccess ? restored : error;
}

hipcommResult_t enter_call(hipcommComm_t comm, hipStream_t stream, int* before) {
    const hipError_t error = make_current(comm, before);
    return error == hipSuccess ? hipcommSuccess : hip_error_in_call(comm, "hipSetDevice", error, stream);
}

hipcommResult_t leave_call(hipcommComm_t comm, hipStream_t stream, int before, hipcommResult_t result) {
    const hipError_t error = restore_current(comm, before, hipSuccess);
    if (result != hipcommSuccess || error == hipSuccess) return result;
    return hip_error_in_call(comm, "hipSetDevice", error, stream);
}
