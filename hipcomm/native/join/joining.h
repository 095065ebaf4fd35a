/* From nothing to the WELCOME: connecting, showing the token, waiting for the others. All of it in the calling thread,
 * against one deadline. docs/protocol.md, section 3. */
#ifndef HIPCOMM_NATIVE_JOIN_JOINING_H
#define HIPCOMM_NATIVE_JOIN_JOINING_H

#include "endpoint.h"

/* Called when the server has let this rank in and others may still be missing; an error ends the join. */
typedef hipcommResult_t (*AcceptedFunction)(void* context);

/* Join at a known server. *socket is connected after the WELCOME. hipcommPeerTimeout: not all ranks came in time, and
 * the message says who did; hipcommPeerDied: a rank died before. accepted: or NULL. */
hipcommResult_t join_server(const Identity* identity, const Endpoint* endpoint, double timeout, AcceptedFunction accepted,
                            void* context, int* socket);

/* See that no other process has claimed this rank at the server that the file names, and waits there for the others. */
hipcommResult_t check_unclaimed(const Identity* identity, const EndpointFile* file);

/* Join at the server that rank 0 publishes in a file. One that an earlier job has left is tried again. */
hipcommResult_t join_published(const Identity* identity, const EndpointFile* file, double timeout, int* socket);

#endif
