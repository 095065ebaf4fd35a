/* How ranks find the server without hipcomm-run: a file that rank 0 writes into a directory that only its user can enter.
 * docs/protocol.md, section 7. */
#ifndef HIPCOMM_NATIVE_JOIN_ENDPOINT_H
#define HIPCOMM_NATIVE_JOIN_ENDPOINT_H

#include <limits.h>

#include "settings.h"

typedef struct EndpointFile {
    char path[PATH_MAX]; /* "": none */
} EndpointFile;

/* The file of a job; makes its directory. */
hipcommResult_t find_endpoint_file(const char* job, EndpointFile* file);

/* Keep other ranks 0 of this user from publishing meanwhile, so that each sees those before it. A descriptor to
 * close(), and the lock with it; -1: there is none to be had. */
int lock_endpoints(const EndpointFile* file);

/* Remove the files that killed processes have left around this one, tokens in them. Within lock_endpoints(). */
void sweep_endpoints(const EndpointFile* file);

/* Put an endpoint into it, in one step. */
hipcommResult_t publish_endpoint(const EndpointFile* file, const Endpoint* endpoint);

/* Read it; false while there is no such file, or it makes no sense. */
bool look_up_endpoint(const EndpointFile* file, Endpoint* endpoint);

/* Remove it if it still holds this endpoint: a later server may have replaced it. */
void withdraw_endpoint(const EndpointFile* file, const Endpoint* endpoint);

#endif
