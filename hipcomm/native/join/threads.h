/* Threads of the library's own. */
#ifndef HIPCOMM_NATIVE_JOIN_THREADS_H
#define HIPCOMM_NATIVE_JOIN_THREADS_H

#include <pthread.h>

/* Start a thread that takes no signals: they are the program's. 0, or an errno. */
int start_thread(pthread_t* thread, void* (*function)(void*), void* context);

#endif
