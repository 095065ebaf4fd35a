/* Bytes over TCP, with a deadline for everything that waits. */
#ifndef HIPCOMM_NATIVE_JOIN_SOCKETS_H
#define HIPCOMM_NATIVE_JOIN_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>

/* Of the monotonic clock, on which all deadlines are. INFINITY: none. */
double now_seconds(void);
void sleep_until(double deadline);

/* What poll() takes: the milliseconds that are left, rounded up; -1: no end. */
int milliseconds_until(double deadline);

/* A connected socket with TCP_NODELAY and keep-alive; -1, and errno says why. */
int connect_to(const char* host, int port, double deadline);

/* A socket that listens on a free port of 127.0.0.1; -1, and errno says why. */
int listen_on_loopback(int* port);

/* What every connection gets, on either side. From here on a forked child closes it: the death of its parent, whose
 * connection this is, must still close it. */
bool prepare_connection(int socket);

/* For all sockets that come from here. */
void close_socket(int socket);

/* All of it, or false: errno is ETIMEDOUT at the deadline, ECONNRESET where the other side has closed. */
bool send_bytes(int socket, const void* data, size_t size, double deadline);
bool receive_bytes(int socket, void* data, size_t size, double deadline);

#endif
