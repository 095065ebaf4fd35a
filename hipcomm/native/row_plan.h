/* The launch plans of norms over rows: parts of plan.c. */
#ifndef HIPCOMM_NATIVE_ROW_PLAN_H
#define HIPCOMM_NATIVE_ROW_PLAN_H

#include "plan.h"

bool is_norm(hipcommOperation_t operation);

/* Whether a request has what its operation wants: of norms rows, and a dtype that they are of; of others no rows. */
bool has_its_rows(const hipcommPlanRequest* request);

/* Whether a launch of the algorithm has room for a row. */
bool can_norm(const hipcommPlanRequest* request, const TuningRow* row, hipcommAlgorithm_t algorithm);

/* The rest of a plan whose kernel and algorithm are chosen; no kernel: not a row fits into the staging slab. */
void plan_norm(const hipcommPlanRequest* request, const TuningRow* row, uint32_t max_blocks, hipcommPlan* plan);

#endif
