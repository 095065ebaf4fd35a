/* A rank's device: finding it, and making it current. */
#ifndef HIPCOMM_NATIVE_JOIN_DEVICE_H
#define HIPCOMM_NATIVE_JOIN_DEVICE_H

#include "platform.h"
#include "settings.h"

typedef struct Device {
    int ordinal; /* HIP's number of it in this process */
    char pci_bus_id[32];
    char arch[64]; /* gcnArchName: "gfx942:sramecc+:xnack-", "sm_90", "x86_64:avx2+" */
    int multiprocessors;
    bool is_host; /* a host thread is the processor */
} Device;

/* Make a device current: the one that the settings name, or that of the local rank. */
hipcommResult_t open_device(const Settings* settings, int local_rank, Device* device);

/* Make it current for a while: *before is what leave_device() then makes current again. Memory comes from the current
 * device, and waiting for "the device" waits for that one. */
hipcommResult_t enter_device(const Device* device, int* before);

/* `result`, or if that is success, whether the device could be set. */
hipcommResult_t leave_device(int before, hipcommResult_t result);

#endif
