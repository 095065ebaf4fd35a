#include "threads.h"

#include <signal.h>

int start_thread(pthread_t* thread, void* (*function)(void*), void* context) {
    sigset_t all, before;
    sigfillset(&all);
    const int masked = pthread_sigmask(SIG_SETMASK, &all, &before);
    if (masked) return masked;
    const int error = pthread_create(thread, NULL, function, context);
    const int restored = pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error ? error : restored;
}
