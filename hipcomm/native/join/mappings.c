#include "mappings.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "../failure.h"

typedef struct Mapping {
    hipIpcMemHandle_t handle;
    void* base;
    int users;
    struct Mapping* next;
} Mapping;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Mapping* mappings;

/* The place in the list of a handle's mapping, or of the list's end. */
static Mapping** find(const hipIpcMemHandle_t* handle) {
    Mapping** place = &mappings;
    while (*place && memcmp(&(*place)->handle, handle, sizeof *handle) != 0) place = &(*place)->next;
    return place;
}

hipcommResult_t open_mapping(const hipIpcMemHandle_t* handle, char** base) {
    hipcommResult_t result = hipcommSuccess;
    pthread_mutex_lock(&lock);
    Mapping** place = find(handle);
    if (!*place) {
        Mapping* mapping = calloc(1, sizeof *mapping);
        if (!mapping)
            result = set_error(NULL, hipcommOutOfMemory, "no memory for a mapping");
        else
            result = HIP_CALL(IpcOpenMemHandle, &mapping->base, *handle, hipIpcMemLazyEnablePeerAccess);
        if (result == hipcommSuccess) {
            mapping->handle = *handle;
            *place = mapping;
        } else {
            free(mapping);
        }
    }
    if (result == hipcommSuccess) {
        ++(*place)->users;
        *base = (*place)->base;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

hipcommResult_t close_mapping(const hipIpcMemHandle_t* handle) {
    hipcommResult_t result = hipcommSuccess;
    pthread_mutex_lock(&lock);
    Mapping** place = find(handle);
    if (*place && --(*place)->users == 0) {
        Mapping* mapping = *place;
        *place = mapping->next;
        result = HIP_CALL(IpcCloseMemHandle, mapping->base);
        free(mapping);
    }
    pthread_mutex_unlock(&lock);
    return result;
}
