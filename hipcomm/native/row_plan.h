/* The launch plans of norms over rows: parts of plan.c. */
#ifndef HIPCOMM_NATIVE_ROW_PLAN_H
#define HIPCOMM_NATIVE_ROW_PLAN_H

#include "plan.h"

/* Operations over rows, the gather of normed rows among them. */
bool is_norm(hipcommOperation_t operation);
bool is_layer_norm(hipcommOperation_t operation);

/* Whether a world of one runs the operation's kernel too: layouts of what is gathered differ; q and k are two. */
bool has_kernel_of_one(hipcommOperation_t operation);

/* Elements of a row, at most: of the norm of q and k, of both together. */
uint64_t most_hidden(hipcommOperation_t operation);

bool is_norm_dtype(hipcommDataType_t dtype);

/* Whether residual and residual_out, and whether the other outputs are those rows only that this rank owns. */
bool has_own_residual(hipcommOperation_t operation);
bool has_own_results(hipcommOperation_t operation);

/* Whether, where rows have owners, these alone norm them: also of a replicated residual, where ranks share a memory. To
 * copy a row there takes a fraction of the time that its norm takes. */
bool owners_norm(hipcommOperation_t operation, const TuningRow* row);

/* Whether rows have owners, of which a launch takes as many each. */
bool rows_have_owners(hipcommAlgorithm_t algorithm);

/* The all-reduce that has its residual sharded; others stay what they are. */
hipcommOperation_t sharded_operation(hipcommOperation_t operation);

/* Whether a request has what its operation wants: of norms rows, and a dtype that they are of; of others no rows. */
bool has_its_rows(const hipcommPlanRequest* request);

/* Whether a launch of the algorithm has room for a row. */
bool can_norm(const hipcommPlanRequest* request, const TuningRow* row, hipcommAlgorithm_t algorithm);

/* The rest of a plan whose kernel and algorithm are chosen; no kernel: not a row fits into the staging slab. */
void plan_norm(const hipcommPlanRequest* request, const TuningRow* row, uint32_t max_blocks, hipcommPlan* plan);

/* The same of the norm of q and k. */
void plan_qk_norm(const hipcommPlanRequest* request, const TuningRow* row, uint32_t max_blocks, hipcommPlan* plan);

#endif
