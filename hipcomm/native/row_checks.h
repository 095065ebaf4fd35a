/* What is refused of a call over rows before anything is launched. */
#ifndef HIPCOMM_NATIVE_ROW_CHECKS_H
#define HIPCOMM_NATIVE_ROW_CHECKS_H

#include "failure.h"
#include "quantised.h"

/* Rows that this rank owns: contiguous, the first `tokens mod world` ranks one more (kernels/fused/owners.h). */
typedef struct OwnRows {
    uint64_t first, count;
} OwnRows;
OwnRows own_rows(hipcommComm_t comm, uint64_t tokens);

__attribute__((format(printf, 3, 4))) hipcommResult_t refuse(hipcommComm_t comm, hipcommOperation_t operation,
                                                             const char* format, ...);
hipcommResult_t refuse_row(hipcommComm_t comm, hipcommOperation_t operation, uint64_t hidden);

/* In `quantised` what the quantised output looks like, if there is one. */
hipcommResult_t check_norm(hipcommComm_t comm, hipcommOperation_t operation, const hipcommNorm* norm,
                           QuantisedShape* quantised);

hipcommResult_t check_qk_norm(hipcommComm_t comm, const hipcommQkNorm* norm);

/* The same of a gather: in shapes[0] and shapes[1] this rank's part and the whole. */
hipcommResult_t check_tokens(hipcommComm_t comm, const hipcommTokens* tokens, QuantisedShape* shapes);

#endif
