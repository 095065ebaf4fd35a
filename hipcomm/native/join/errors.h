/* Errors of the control plane. Their message is the thread's last error (set_error(NULL, ...)) until a communicator's
 * function hands it out. */
#ifndef HIPCOMM_NATIVE_JOIN_ERRORS_H
#define HIPCOMM_NATIVE_JOIN_ERRORS_H

#include "../failure.h"

/* Put "rank 3: ..." before the message. */
hipcommResult_t prefix_error(hipcommResult_t result, const char* format, ...) __attribute__((format(printf, 2, 3)));

/* An error with its message, kept while something else is done that may fail too. */
typedef struct KeptError {
    hipcommResult_t result;
    char message[1024];
} KeptError;
KeptError keep_error(hipcommResult_t result);

/* Of two errors the one that came first, the kept one, with its message. */
hipcommResult_t first_error(const KeptError* kept, hipcommResult_t later);

/* Make the thread's last error that of the communicator. */
hipcommResult_t hand_out(hipcommComm_t comm, hipcommResult_t result);

#endif
