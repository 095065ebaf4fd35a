/* What is beneath hipcomm.h: launch plans, and the seam between the C core, which checks, plans and launches, and a
 * control plane, which joins the ranks and maps their memory: Python's, C's (hipcomm/native/join), or another one
 * (docs/protocol.md). None of it is needed by a program, and all of it may change with any version.
 *
 * C99. Functions behave as those of hipcomm.h.
 */
#ifndef HIPCOMM_INTERNAL_H
#define HIPCOMM_INTERNAL_H

#include "hipcomm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* cffi: begin */

/* ---- launch plans ------------------------------------------------------------------------------ */

/* What decides how a call is run; equal on all ranks. */
typedef struct {
    hipcommOperation_t operation;
    hipcommDataType_t dtype;
    hipcommRedOp_t op;
    uint64_t bytes; /* count times the size of an element: of a rank's part, of a pair's part
                       (all_to_all), of the largest part (all_gather_v); all_to_all_v: not looked at */
    int world;
    const char* arch;             /* gcnArchName of the devices */
    uint32_t max_blocks;          /* 0: as many as the architecture's tuning row allows */
    hipcommAlgorithm_t algorithm; /* hipcommAlgorithmAuto, or one to force */
    uint64_t staging_bytes;       /* of the staging slab; 0: the default */
    int registered;               /* the buffers that the direct algorithm touches are registered */
    uint32_t hidden;              /* norms: elements of a row, of which bytes are whole ones; others: 0 */
    hipcommFormat_t format;       /* norms: of the quantised output */
    int whole_packs;              /* norms: all rows and parameters are whole, aligned packs */
    uint64_t gathered_bytes;      /* norms whose rows have owners: what these send of a finished row to each rank */
} hipcommPlanRequest;

typedef struct {
    hipcommAlgorithm_t algorithm;
    int kernel; /* index into the kernel table; -1: no kernel, nothing to move or a copy */
    uint32_t blocks;
    uint32_t threads;
    uint32_t shared_bytes;     /* of dynamic shared memory */
    uint32_t unit_bytes;       /* flag-in-data, where lines carry units: bytes of one */
    uint32_t line_packs;       /* flag-in-data, where they carry packs: packs of one */
    uint32_t tile_shift;       /* and log2 of the lines of a tile */
    uint32_t chunk_packs;      /* pipelined: packs of one block's step */
    uint32_t kept_slices;      /* norms: slices of a row that shared memory holds, */
    uint32_t lane_slices;      /* and those that a thread takes at a time */
    uint64_t rows_per_launch;  /* norms: rows; where rows have owners, of each */
    uint64_t line_bytes;       /* of an exchange: longer segments are not flag-in-data */
    uint64_t bytes_per_launch; /* longer messages take several launches */
    uint64_t link_bytes;       /* norms: that the rank with the most rows sends over its links, or others read there */
} hipcommPlan;

/* A pure function: needs no device and no communicator. hipcommInvalidArgument for what no call can be, among it
 * 2^56 bytes and more. */
hipcommResult_t hipcommMakePlan(const hipcommPlanRequest* request, hipcommPlan* plan);

/* The plan of a call on this communicator; bytes and registered as in hipcommPlanRequest. */
hipcommResult_t hipcommCommPlan(hipcommComm_t comm, hipcommOperation_t operation, uint64_t bytes,
                                hipcommDataType_t dtype, hipcommRedOp_t op, int registered, hipcommPlan* plan);

/* The same of a call over rows: of the norm tokens, hidden, dtype, sharded, which outputs are NULL, and how the quantised
 * one is described. hipcommInvalidArgument, and a sentence, where such a call would be refused. */
hipcommResult_t hipcommCommPlanNorm(hipcommComm_t comm, hipcommOperation_t operation, const hipcommNorm* norm,
                                    hipcommPlan* plan);

/* The names that Python has for these; "unknown ..." for other numbers. */
const char* hipcommDataTypeName(hipcommDataType_t dtype);
const char* hipcommRedOpName(hipcommRedOp_t op);
const char* hipcommOperationName(hipcommOperation_t operation);
const char* hipcommAlgorithmName(hipcommAlgorithm_t algorithm);
const char* hipcommFormatName(hipcommFormat_t format);
const char* hipcommScaleLayoutName(hipcommScaleLayout_t layout);

/* What an operation is, in words: a row of hipcomm/abi/operations.def, which explains the columns. */
typedef struct {
    const char* name;
    const char* bytes;
    const char* sent;
    const char* received;
    const char* in_place;
    const char* root;
    int reduces;
    int reads;
    int writes;
    const char* family;
    const char* compared;
} hipcommOperationInfo;
hipcommResult_t hipcommGetOperationInfo(hipcommOperation_t operation, hipcommOperationInfo* info);

/* ---- communicators ------------------------------------------------------------------------------ */

/* The kernels a communicator needs: file (without extension) and name of kernel `index`, and whether an
 * architecture has it: kernels for wide lines are for GPUs with 128-bit atomics. */
int hipcommKernelCount(void);
int hipcommKernelIsFor(const char* arch, int index);
hipcommResult_t hipcommKernelInfo(int index, const char** file, const char** name);

/* Sizes that the slabs of a communicator must have. */
typedef struct {
    uint64_t control_bytes;
    uint64_t staging_bytes;
    uint64_t status_bytes;
    uint32_t max_blocks;
    int staging_uncached; /* the staging slab has to be uncached memory, as the control slab always is */
} hipcommLayout;
hipcommResult_t hipcommGetLayout(const char* arch, uint64_t staging_bytes, hipcommLayout* layout);

/* What the control plane has prepared. All memory stays the control plane's; it must outlive the
 * communicator. The slabs' contents are set up by hipcommCommCreate (own slab only): create, then
 * meet the peers, then call. */
typedef struct {
    int rank;
    int world;
    const char* hip_library; /* path of the libamdhip64.so that everything here came from */
    const char* arch;
    int device;
    uint32_t max_blocks;          /* the least over all ranks; 0: the tuning row's */
    hipcommAlgorithm_t algorithm; /* forced for all calls, or hipcommAlgorithmAuto */
    double timeout_seconds; /* up to a million */
    uint64_t staging_bytes; /* up to 64 GiB; 0: the tuning row's */
    int check;            /* not 0: ranks compare every call, a mismatch ends in hipcommCallMismatch */
    uint32_t first_epoch; /* and number of a channel's first message. 0: the default; others are for tests
                             of the wrap-around */
    void* const* control; /* [world] control slabs as mapped in this process */
    void* const* staging; /* [world] staging slabs */
    void* status_host;    /* pinned page, host and device address */
    void* status_device;
    void* const* functions; /* [hipcommKernelCount()] hipFunction_t; NULL where hipcommKernelIsFor says no */
} hipcommConfig;

/* On an error *comm is NULL and hipcommGetLastError(NULL) has this thread's message. */
hipcommResult_t hipcommCommCreate(const hipcommConfig* config, hipcommComm_t* comm);

/* Frees the object. The caller has synchronised the streams it used. */
hipcommResult_t hipcommCommDestroy(hipcommComm_t comm);

/* A number for a communicator, which no other one of this process ever has: for programs that are compiled once and may
 * run when the communicator has ended (hipcomm/jax). 0: it has ended; and NULL likewise. */
uint64_t hipcommCommNumber(hipcommComm_t comm);
hipcommComm_t hipcommCommOfNumber(uint64_t number);

/* Fail the communicator from outside, from any thread: kernels that wait leave, later calls return
 * `result` with `message`. peer: the rank that is lost, or -1. Only the first failure counts. */
hipcommResult_t hipcommCommAbort(hipcommComm_t comm, hipcommResult_t result, int peer, const char* message);

/* Tell the communicator that rank `peer` makes no more calls on it, in good order: all that it has sent is there. Kernels that wait for more from it leave, and the call returns hipcommPeerDied. From any thread. */
hipcommResult_t hipcommCommPeerLeft(hipcommComm_t comm, int peer);

/* Say what a kernel of the communicator is waiting in: "all_reduce (call 3, staged) for rank 2, for 12.3 s"; text is
 * empty where none has been waiting for long. Takes up to half a second, to see whether the wait goes on. From any
 * thread. */
hipcommResult_t hipcommCommDescribeWait(hipcommComm_t comm, char* text, size_t size);

/* Register memory, so that calls whose buffers lie in it may work on it in place. bases: [world], the
 * memory of every rank as mapped in this process, `bytes` each; it must stay mapped until the region is
 * removed. Collective: all ranks add and remove regions in the same order, with no call of theirs under
 * way. *number: what hipcommCommRemoveRegion() wants. Whether a buffer lies in registered memory must be
 * the same on all ranks of a call, else it ends with hipcommCallMismatch; where in it need not be. */
hipcommResult_t hipcommCommAddRegion(hipcommComm_t comm, void* const* bases, uint64_t bytes, int* number);
hipcommResult_t hipcommCommRemoveRegion(hipcommComm_t comm, int number);

/* ---- worlds over nodes --------------------------------------------------------------------------- */

/* What a rank of a world over nodes does alone, on its node's communicator: enqueued on the stream, in the order of the
 * communicator's calls, and may be captured (docs/nodes.md). */

/* Elements of float16, bfloat16 or an 8-bit float, to float32. */
hipcommResult_t hipcommCommWiden(hipcommComm_t comm, const void* send, void* recv, size_t count, hipcommDataType_t dtype,
                                 hipcommStream_t stream);

/* Collective: reduce-scatter of float16, bfloat16 or an 8-bit float, rows as those of hipcommReduceScatterRows(), whose
 * results are float32, neither rounded nor, of hipcommAvg, divided. Not in place. */
hipcommResult_t hipcommCommReduceScatterPartial(hipcommComm_t comm, const void* send, void* recv, size_t rows,
                                                size_t count, hipcommDataType_t dtype, hipcommRedOp_t op,
                                                hipcommStream_t stream);

/* The nodes' partial results of `count` elements, in the type that dtype accumulates in, combined in node order and
 * rounded once into recv: own is this node's, partials has those of nodes 0, 1, ... `stride` bytes apart, a place for
 * this node among them. For hipcommAvg divided by divisor. Buffers do not overlap. */
typedef struct {
    const void* own;
    const void* partials;
    uint64_t stride;
    uint32_t nodes;
    uint32_t node;
    uint32_t divisor;
} hipcommPartials;
hipcommResult_t hipcommCommFinish(hipcommComm_t comm, const hipcommPartials* partials, void* recv, size_t count,
                                  hipcommDataType_t dtype, hipcommRedOp_t op, hipcommStream_t stream);

/* Copy `rows` rows of `bytes` bytes, whose beginnings are send_stride and recv_stride bytes apart. */
hipcommResult_t hipcommCommCopyRows(hipcommComm_t comm, const void* send, uint64_t send_stride, void* recv,
                                    uint64_t recv_stride, uint64_t bytes, uint64_t rows, hipcommStream_t stream);

/* Add one to a 64-bit number in pinned host memory, where the stream comes to it. */
hipcommResult_t hipcommCommCountUp(hipcommComm_t comm, uint64_t* count, hipcommStream_t stream);

/* cffi: end */

#ifdef __cplusplus
}
#endif

#endif /* HIPCOMM_INTERNAL_H */
