/* Which communicators exist, so that a handle that has outlived its communicator is an error and no crash. */
#ifndef HIPCOMM_NATIVE_HANDLES_H
#define HIPCOMM_NATIVE_HANDLES_H

#include <stdbool.h>

#include "hipcomm_internal.h"

/* Gives the communicator its number. False: no memory. */
bool handle_begins(hipcommComm_t comm);

/* The communicator is about to be destroyed. Frees the memory of it or, for a while, of an earlier one, so that
 * a new communicator does not come by the old one's handle soon. */
void handle_ends(hipcommComm_t comm);

/* Whether a handle is that of a communicator that exists. Takes no lock; on the path of every call. */
bool is_live(hipcommComm_t comm);

#endif
