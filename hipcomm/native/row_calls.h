/* A call over rows, from its plan to its launches. */
#ifndef HIPCOMM_NATIVE_ROW_CALLS_H
#define HIPCOMM_NATIVE_ROW_CALLS_H

#include "launch.h"

/* Which rows a launch takes, in its arguments: where rows have owners, as many of each. */
typedef struct LaunchRows {
    uint64_t *first, *count;
    uint64_t tokens;
} LaunchRows;

/* Compare the ranks' calls, if they are to be compared, and launch until all rows are done. */
hipcommResult_t run_rows(hipcommComm_t comm, const Call* call, const hipcommPlan* plan, void* args,
                         const LaunchRows* rows, uint64_t hidden, hipStream_t stream);

#endif
