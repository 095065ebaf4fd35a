/* The launch plan: how a call is run. The only place that chooses. */
#ifndef HIPCOMM_NATIVE_PLAN_H
#define HIPCOMM_NATIVE_PLAN_H

#include "hipcomm.h"
#include "tuning.h"

/* Longer messages, and more staging memory, are refused: below these, no sum or product in plan.c overflows, and the
 * packs of the staging slab can be counted in 32 bits. */
#define MAX_MESSAGE_BYTES (UINT64_MAX >> 8)
#define MAX_STAGING_BYTES (64ull << 30)

/* hipcommMakePlan() after its checks: request is valid, row is tuning_row(request->arch). */
void make_plan(const hipcommPlanRequest* request, const TuningRow* row, hipcommPlan* plan);

#endif
