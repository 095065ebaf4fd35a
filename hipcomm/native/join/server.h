/* A rendezvous server in this process, for one world. It has its own thread. docs/protocol.md, sections 3 and 4. */
#ifndef HIPCOMM_NATIVE_JOIN_SERVER_H
#define HIPCOMM_NATIVE_JOIN_SERVER_H

#include "settings.h"

typedef struct Server Server;

/* Start one with a token of its own on a free port of 127.0.0.1. world: 0: as many ranks as the first one says. */
hipcommResult_t server_start(int world, double join_timeout, Server** server);

void server_endpoint(const Server* server, Endpoint* endpoint);

/* End it: at once if nobody is joined any more, or not within `patience` seconds, as soon as nobody is. The pointer is
 * not valid afterwards. */
void server_end(Server* server, double patience);

#endif
