/* What was called and how it is run, one line a call, for HIPCOMM_LOG=debug. */
#include "call_log.h"

#include <stdio.h>

hipcommResult_t hipcommCommSetLog(hipcommComm_t comm, hipcommLogFunction log, void* context) {
    if (!is_live(comm)) return no_comm();
    comm->log_context = context;
    comm->log = log;
    return hipcommSuccess;
}

void log_call(hipcommComm_t comm, const Call* call, uint64_t bytes, const hipcommPlan* plan) {
    const char *file = "", *kernel = "no kernel";
    if (plan->kernel >= 0) hipcommKernelInfo(plan->kernel, &file, &kernel);
    char line[320];
    snprintf(line, sizeof line,
             "rank %u: %s of %llu bytes, %s, %s: %s, %s, %u blocks of %u threads, chunks of %llu bytes",
             comm->args.rank, operations[call->operation].name, (unsigned long long)bytes, dtype_name(call->dtype),
             redop_name(call->op), plan->kernel < 0 && plan->algorithm == hipcommAlgorithmAuto
                                       ? "nothing to move"
                                       : algorithm_name((uint32_t)plan->algorithm),
             kernel, plan->blocks, plan->threads,
             (unsigned long long)plan->chunk_packs * HIPCOMM_PACK_BYTES);
    comm->log(comm->log_context, line);
}
