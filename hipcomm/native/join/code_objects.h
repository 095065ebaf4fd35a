/* The kernels: finding and loading the code objects of a device's architecture, which lie next to this library. */
#ifndef HIPCOMM_NATIVE_JOIN_CODE_OBJECTS_H
#define HIPCOMM_NATIVE_JOIN_CODE_OBJECTS_H

#include "device.h"

typedef struct CodeObjects {
    void** functions; /* [hipcommKernelCount()]; NULL where hipcommKernelIsFor says no */
    struct LoadedModule* modules;
    int count;
} CodeObjects;

hipcommResult_t load_code_objects(const Platform* platform, const char* arch, CodeObjects* objects);

/* Nothing of them may be running. */
hipcommResult_t unload_code_objects(CodeObjects* objects);

#endif
