/* The kernels: finding and loading the code objects of a device's architecture, which lie next to this library. */
#ifndef HIPCOMM_NATIVE_JOIN_CODE_OBJECTS_H
#define HIPCOMM_NATIVE_JOIN_CODE_OBJECTS_H

#include "device.h"

/* The kernels of a device, which is current: loaded once in a process, for all of its communicators. They stay loaded: a
 * graph that holds some may outlive its communicator. *functions: [hipcommKernelCount()]; NULL where
 * hipcommKernelIsFor() says no. */
hipcommResult_t find_kernels(const Platform* platform, const Device* device, void* const** functions);

#endif
