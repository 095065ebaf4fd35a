/* The launch plan: how a call is run. The only place that chooses. */
#ifndef HIPCOMM_NATIVE_PLAN_H
#define HIPCOMM_NATIVE_PLAN_H

#include "../abi/limits.h"
#include "hipcomm_internal.h"
#include "tuning.h"

/* hipcommMakePlan() after its checks: request is valid, row is tuning_row(request->arch). */
void make_plan(const hipcommPlanRequest* request, const TuningRow* row, hipcommPlan* plan);

#endif
