/* The kernels by number: which file under kernels/ holds them, and their names. */
#ifndef HIPCOMM_NATIVE_KERNEL_TABLE_H
#define HIPCOMM_NATIVE_KERNEL_TABLE_H

#include "hipcomm.h"

/* The kernel of an operation and algorithm; dtype and op count for reductions only.
 * -1 where the operation has no such algorithm. */
int kernel_index(hipcommOperation_t operation, hipcommAlgorithm_t algorithm, hipcommDataType_t dtype,
                 hipcommRedOp_t op);

/* The kernel that does the same in wide lines (kernels/lines/line_packs.h); -1 where there is none. */
int wide_kernel_index(int index);

/* The kernel that compares the ranks' calls. */
int check_kernel_index(void);

#endif
