#include "sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

double now_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void sleep_until(double deadline) {
    const double left = deadline - now_seconds();
    if (left <= 0) return;
    const time_t seconds = (time_t)left;
    nanosleep(&(struct timespec){.tv_sec = seconds, .tv_nsec = (long)((left - (double)seconds) * 1e9)}, NULL);
}

int milliseconds_until(double deadline) {
    if (isinf(deadline)) return -1;
    const double left = ceil((deadline - now_seconds()) * 1e3);
    return left <= 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}

/* Until the socket is ready; false: errno is ETIMEDOUT, or poll's. */
static bool wait_for(int socket, short event, double deadline) {
    struct pollfd entry = {.fd = socket, .events = event};
    for (;;) {
        const int ready = poll(&entry, 1, milliseconds_until(deadline));
        if (ready > 0) return true;
        if (ready == 0 && now_seconds() >= deadline) {
            errno = ETIMEDOUT;
            return false;
        }
        if (ready < 0 && errno != EINTR) return false;
    }
}

/* ---- what a forked child closes ------------------------------------------------------------------------------------*/

#define MOST_SOCKETS 65536 /* those of higher numbers stay open in children */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned char is_ours[MOST_SOCKETS / 8];

static void before_fork(void) { pthread_mutex_lock(&lock); }
static void in_parent(void) { pthread_mutex_unlock(&lock); }
static void in_child(void) {
    for (int number = 0; number < MOST_SOCKETS; ++number)
        if (is_ours[number / 8] >> number % 8 & 1) close(number);
    memset(is_ours, 0, sizeof is_ours);
    pthread_mutex_unlock(&lock);
}

static int watch_error;
static void watch_forks(void) { watch_error = pthread_atfork(before_fork, in_parent, in_child); }

static void note_socket(int socket, bool is_open) {
    if (socket < 0 || socket >= MOST_SOCKETS) return;
    const unsigned char bit = (unsigned char)(1u << socket % 8);
    pthread_mutex_lock(&lock);
    is_ours[socket / 8] = (unsigned char)(is_open ? is_ours[socket / 8] | bit : is_ours[socket / 8] & ~bit);
    pthread_mutex_unlock(&lock);
}

static bool guard(int socket) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    note_socket(socket, true);
    errno = watch_error;
    return watch_error == 0;
}

void close_socket(int socket) {
    note_socket(socket, false);
    close(socket);
}

/* ---- connections ---------------------------------------------------------------------------------------------------*/

bool prepare_connection(int socket) {
    /* frames go at once, and TCP finds out in half a minute that the other machine is gone */
    static const struct {
        int level, option, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},   {SOL_SOCKET, SO_KEEPALIVE, 1}, {IPPROTO_TCP, TCP_KEEPIDLE, 15},
        {IPPROTO_TCP, TCP_KEEPINTVL, 5}, {IPPROTO_TCP, TCP_KEEPCNT, 3},
    };
    if (!guard(socket)) return false;
    for (size_t i = 0; i < sizeof options / sizeof options[0]; ++i)
        if (setsockopt(socket, options[i].level, options[i].option, &options[i].value, sizeof options[i].value) != 0)
            return false;
    return true;
}

static int close_with(int socket, int error) {
    close_socket(socket);
    errno = error;
    return -1;
}

static int connect_address(const struct addrinfo* address, double deadline) {
    const int socket_number =
        socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, address->ai_protocol);
    if (socket_number < 0) return -1;
    if (connect(socket_number, address->ai_addr, address->ai_addrlen) != 0) {
        if (errno != EINPROGRESS) return close_with(socket_number, errno);
        if (!wait_for(socket_number, POLLOUT, deadline)) return close_with(socket_number, errno);
        int error = 0;
        socklen_t size = sizeof error;
        if (getsockopt(socket_number, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
        if (error) return close_with(socket_number, error);
    }
    return prepare_connection(socket_number) ? socket_number : close_with(socket_number, errno);
}

int connect_to(const char* host, int port, double deadline) {
    char service[16];
    snprintf(service, sizeof service, "%d", port);
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo* addresses = NULL;
    const int found = getaddrinfo(host, service, &hints, &addresses);
    if (found != 0) {
        if (found != EAI_SYSTEM) errno = EHOSTUNREACH;
        return -1;
    }
    int connected = -1, error = EHOSTUNREACH;
    for (const struct addrinfo* each = addresses; each && connected < 0; each = each->ai_next) {
        connected = connect_address(each, deadline);
        if (connected < 0) error = errno;
    }
    freeaddrinfo(addresses);
    if (connected < 0) errno = error;
    return connected;
}

int listen_on_loopback(int* port) {
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener < 0) return -1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (!guard(listener) || bind(listener, (struct sockaddr*)&address, sizeof address) != 0 || listen(listener, 1024) != 0 ||
        getsockname(listener, (struct sockaddr*)&address, &size) != 0)
        return close_with(listener, errno);
    *port = ntohs(address.sin_port);
    return listener;
}

bool send_bytes(int socket, const void* data, size_t size, double deadline) {
    const char* next = data;
    while (size > 0) {
        const ssize_t sent = send(socket, next, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0) {
            next += sent;
            size -= (size_t)sent;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (!wait_for(socket, POLLOUT, deadline)) return false;
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

bool receive_bytes(int socket, void* data, size_t size, double deadline) {
    char* next = data;
    while (size > 0) {
        const ssize_t received = recv(socket, next, size, MSG_DONTWAIT);
        if (received > 0) {
            next += received;
            size -= (size_t)received;
        } else if (received == 0) {
            errno = ECONNRESET;
            return false;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (!wait_for(socket, POLLIN, deadline)) return false;
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}
