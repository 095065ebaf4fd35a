/* hipcomm: collective communication between the GPUs of one machine.
 *
 * C99. Named after the NCCL habit. No function exits, aborts or prints; every function that can fail returns a result
 * code, and hipcommGetLastError() has the sentence that goes with it.
 *
 * Collectives take device pointers, are enqueued on a HIP stream and return at once; on the CPU platform they have
 * happened when they return. They may be captured into a graph. All ranks of a communicator make the same calls in the
 * same order, except for messages between two ranks (hipcommSend, hipcommRecv). Counts are elements. A pointer may have
 * any alignment. Send and receive buffer may be the same ("in place"); buffers that overlap in any other way are
 * refused. Buffers stay alive until the stream has passed the call. Calls on one communicator run in the order in which
 * they are made, also where they are on different streams.
 *
 * Threads: a communicator is used by one thread at a time, any; several communicators by several threads at once.
 * hipcommAbort() may be called at any time. A forked child must not use its parent's communicators.
 *
 * Failures: hipcommInvalidArgument is found before anything is launched, and harms nothing. A time-out, a dead rank
 * or differing calls fail the communicator for good, on all ranks: at the call, a later one, or
 * hipcommStreamSynchronize(), whichever first notices. Then hipcommDestroy() it, which waits for nobody.
 */
#ifndef HIPCOMM_H
#define HIPCOMM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header; hipcommGetVersion() has the library's. */
#define HIPCOMM_VERSION 100 /* major * 10000 + minor * 100 + patch */
#define HIPCOMM_VERSION_TEXT "0.1.0"

/* What every structure here begins with: its size, and nothing said. Of settings: everything as the environment says, or
 * the default. Of the others: every pointer NULL, every number 0; a dtype has to be set where one is looked at. */
#define HIPCOMM_SETTINGS_INITIALIZER {sizeof(hipcommSettings), NULL, NULL, 0, 0, NULL, 0, -1, -1}
#define HIPCOMM_BOOTSTRAP_INITIALIZER {sizeof(hipcommBootstrap), NULL, NULL}
#define HIPCOMM_QUANTISED_INITIALIZER \
    {sizeof(hipcommQuantised), hipcommFormatNone, hipcommInt8, 0, hipcommScalesDefault, NULL, 0, NULL, 0, NULL}
#define HIPCOMM_NORM_INITIALIZER                                                                                       \
    {sizeof(hipcommNorm), 0, 0, hipcommInt8, 0, 0, NULL, 0, NULL, 0, NULL, hipcommInt8, NULL, hipcommInt8, NULL, 0,        \
     NULL, 0, NULL, 0}
#define HIPCOMM_NODES_INITIALIZER {sizeof(hipcommNodes), 0, 0, NULL, NULL, NULL, 0}
#define HIPCOMM_TOKENS_INITIALIZER {sizeof(hipcommTokens), 0, 0, hipcommInt8, NULL, 0, NULL, 0, NULL, NULL}
#define HIPCOMM_QKNORM_INITIALIZER                                                                                    \
    {sizeof(hipcommQkNorm), 0, 0, 0, 0, hipcommInt8, 0, NULL, 0, NULL, 0, NULL, 0, NULL, hipcommInt8, NULL, hipcommInt8,   \
     NULL, 0, NULL, 0, NULL, 0}

/* hipcommSplit(): this rank is to be in no new communicator. */
#define HIPCOMM_NO_COLOR INT64_MIN

/* cffi: begin (hipcomm/native/build_ffi.py reads from here to the end marker) */

typedef enum {
    hipcommSuccess = 0,
    hipcommInvalidArgument = 1, /* nothing was launched; the communicator is unharmed */
    hipcommPlatformError = 2,   /* a HIP call failed */
    hipcommPeerTimeout = 3,     /* a peer did not come in time: the communicator has failed for good */
    hipcommPeerDied = 4,        /* a peer is gone: the communicator has failed for good */
    hipcommCallMismatch = 5,    /* the ranks made different calls: the communicator has failed for good */
    hipcommOutOfMemory = 6
} hipcommResult_t;

/* The numbers of ncclDataType_t. */
typedef enum {
    hipcommInt8 = 0,
    hipcommUint8 = 1,
    hipcommInt32 = 2,
    hipcommUint32 = 3,
    hipcommInt64 = 4,
    hipcommUint64 = 5,
    hipcommFloat16 = 6,
    hipcommFloat32 = 7,
    hipcommFloat64 = 8,
    hipcommBfloat16 = 9,
    hipcommFloat8E4M3FN = 10, /* the 8-bit formats are those of ml_dtypes */
    hipcommFloat8E5M2 = 11,
    hipcommFloat8E4M3 = 12,
    hipcommFloat8E3M4 = 13,
    hipcommFloat8E4M3FNUZ = 14,
    hipcommFloat8E4M3B11FNUZ = 15,
    hipcommFloat8E5M2FNUZ = 16,
    hipcommFloat8E8M0FNU = 17,
    hipcommNumDataTypes = 18
} hipcommDataType_t;

/* The numbers of ncclRedOp_t. Elements are combined in rank order; floats narrower than float32
 * accumulate in float32 and are rounded once; the average divides before that rounding. */
typedef enum {
    hipcommSum = 0,
    hipcommProd = 1,
    hipcommMax = 2,
    hipcommMin = 3,
    hipcommAvg = 4,
    hipcommNumRedOps = 5
} hipcommRedOp_t;

typedef enum {
    hipcommOpAllReduce = 0,
    hipcommOpAllGather = 1,
    hipcommOpBroadcast = 2,
    hipcommOpBarrier = 3,
    hipcommOpReduceScatter = 4,
    hipcommOpReduce = 5,
    hipcommOpAllToAll = 6,
    hipcommOpAllToAllv = 7,
    hipcommOpAllGatherv = 8,
    hipcommOpAllGatherRows = 9,
    hipcommOpGather = 10,
    hipcommOpScatter = 11,
    hipcommOpSend = 12,
    hipcommOpRecv = 13,
    hipcommOpAddRmsNorm = 14,
    hipcommOpAddLayerNorm = 15,
    hipcommOpAllReduceRmsNorm = 16,
    hipcommOpAllReduceLayerNorm = 17,
    hipcommOpAllReduceRmsNormSharded = 18,
    hipcommOpAllReduceLayerNormSharded = 19,
    hipcommOpReduceScatterRmsNorm = 20,
    hipcommOpReduceScatterLayerNorm = 21,
    hipcommOpAllGatherTokens = 22,
    hipcommOpAllReduceQkNorm = 23,
    hipcommNumOperations = 24
} hipcommOperation_t;

typedef enum {
    hipcommAlgorithmAuto = 0,
    hipcommAlgorithmOneShot = 1,   /* flag-in-data, every rank sends everything to every peer (send: to one) */
    hipcommAlgorithmTwoShot = 2,   /* flag-in-data, reduce-scatter then all-gather */
    hipcommAlgorithmPipelined = 3, /* through the staging slab, in chunks */
    hipcommAlgorithmDirect = 4,    /* in place in registered memory, between two barriers */
    hipcommAlgorithmCopy = 5,      /* a world of one */
    hipcommAlgorithmStaged = 6,    /* all-reduce: every rank reduces everything from all staging slabs */
    hipcommAlgorithmLocal = 7,     /* norms: on this rank's own rows, nothing to wait for */
    hipcommNumAlgorithms = 8
} hipcommAlgorithm_t;

/* How an output is quantised: docs/numbers.md has the formulas. */
typedef enum {
    hipcommFormatNone = 0,
    hipcommFormatFp8GivenScale = 1,
    hipcommFormatFp8PerToken = 2,
    hipcommFormatFp8PerGroup = 3,
    hipcommFormatFp8PerGroupE8M0 = 4,
    hipcommFormatMxfp4 = 5,
    hipcommFormatNvfp4 = 6,
    hipcommNumFormats = 7
} hipcommFormat_t;

/* How its scales lie, there as well. */
typedef enum {
    hipcommScalesDefault = 0, /* packed, where the format has no other; otherwise row-major */
    hipcommScalesRowMajor = 1,
    hipcommScalesColumnMajor = 2,
    hipcommScalesPacked = 3,
    hipcommScalesSwizzled = 4,
    hipcommNumScaleLayouts = 5
} hipcommScaleLayout_t;

typedef struct hipcommComm* hipcommComm_t;
typedef void* hipcommStream_t; /* a hipStream_t; NULL is the default stream */

/* ---- joining a job, and leaving it ---------------------------------------------------------------- */

/* What may be said here instead of in the environment (docs/environment.md). Begin with
 * HIPCOMM_SETTINGS_INITIALIZER, which leaves everything to the environment. Texts are read during the call. */
typedef struct {
    size_t size;            /* sizeof(hipcommSettings) */
    const char* platform;   /* "auto", "amd", "nvidia", "cpu"; NULL: HIPCOMM_PLATFORM */
    const char* device;     /* ordinal, PCI bus id or UUID; NULL: HIPCOMM_DEVICE, else by local rank */
    double timeout;         /* seconds that a collective waits for a peer; 0: HIPCOMM_TIMEOUT, else 60 */
    double join_timeout;    /* seconds that a rank waits for all to join; 0: HIPCOMM_JOIN_TIMEOUT, else 60 */
    const char* algorithm;  /* forced for all calls: "one_shot", ...; NULL: HIPCOMM_ALGORITHM, else "auto" */
    uint64_t staging_bytes; /* 0: HIPCOMM_STAGING_BYTES, else what suits the architecture */
    int share_devices;      /* 1: ranks may share a device; -1: HIPCOMM_SHARE_DEVICES, else 0 */
    int check;              /* 1: ranks compare every call; -1: HIPCOMM_CHECK, else 0 */
} hipcommSettings;

/* The functions below are collective on the host: they return when all ranks have called them, at the latest
 * after join_timeout, and belong neither on the path of every call nor into a capture. They make the
 * communicator's device current, and all but those that make a communicator restore the one that was. On
 * an error a function that makes a communicator sets *comm to NULL, and hipcommGetLastError(NULL) has this
 * thread's message; all ranks fail. A program is a rank of one job at a time, unless its threads are the ranks.
 *
 * hipcommInvalidArgument: an argument or a variable is wrong, or differs between ranks. hipcommPeerTimeout: not
 * all ranks came; the message says which. hipcommPeerDied: a rank has ended, or aborted the job.
 * hipcommPlatformError, hipcommOutOfMemory: a HIP or system call failed, here or on another rank. */

/* Join the job that the environment describes: HIPCOMM_* (hipcomm-run), or the variables of torchrun, Open MPI, PMI
 * (MPICH, Intel MPI) or Slurm; with none of them, a world of one. */
hipcommResult_t hipcommInit(hipcommComm_t* comm);
hipcommResult_t hipcommInitSettings(hipcommComm_t* comm, const hipcommSettings* settings);

/* Names a job. The process that makes it hosts the job's rendezvous server, in a thread; it hands the id to all ranks,
 * itself most often among them, in a way of its own. An id serves one communicator. */
typedef struct {
    char internal[128];
} hipcommUniqueId;
hipcommResult_t hipcommGetUniqueId(hipcommUniqueId* id);

/* Join the job of an id as rank `rank` of `world`. Without a device in the settings or HIPCOMM_DEVICE rank i takes
 * device i, and begins with the first one again beyond the last. settings may be NULL. */
hipcommResult_t hipcommInitRank(hipcommComm_t* comm, int world, hipcommUniqueId id, int rank,
                                const hipcommSettings* settings);

/* The caller's own all-gather: of `bytes` bytes from each rank, `recvbuf` has world * bytes, in rank order. Not 0: it has
 * failed. MPI_Allgather, a framework's store, PMIx. Begin with HIPCOMM_BOOTSTRAP_INITIALIZER. */
typedef struct {
    size_t size; /* sizeof(hipcommBootstrap) */
    void* context;
    int (*all_gather)(void* context, const void* sendbuf, void* recvbuf, size_t bytes);
} hipcommBootstrap;

/* The same, and the id goes through the caller's all-gather, which is called once, in this thread, before anything
 * else. The job needs no server of the caller's; a thread of rank 0 is one, as with an id, because somebody has to notice
 * a rank's death, and pass on an abort, while the others' threads wait in a call. */
hipcommResult_t hipcommInitBootstrap(hipcommComm_t* comm, int world, int rank, const hipcommBootstrap* bootstrap,
                                     const hipcommSettings* settings);

/* Ranks as threads: make `count` communicators in this process, comms[i] for rank i on device devices[i]; NULL:
 * devices 0, 1, ... A device for each. Use each communicator from its own thread: a collective waits for the other
 * ranks, and on the CPU platform in the call itself. The current device stays as it was. On an error all are NULL.
 * hipcommDestroyAll() destroys all of them at once; one after the other would wait for each other. */
hipcommResult_t hipcommInitAll(hipcommComm_t* comms, int count, const int* devices, const hipcommSettings* settings);
hipcommResult_t hipcommDestroyAll(hipcommComm_t* comms, int count);

/* Leave together: wait for the device, then for the other ranks, then free the communicator's memory. After a
 * failure it waits for nobody, and memory that peers may still write to is left to the end of the process.
 * No other call may be under way, in any thread; later ones, except hipcommDestroy(), are refused. */
hipcommResult_t hipcommFinalize(hipcommComm_t comm);

/* hipcommFinalize(), if that has not been called, and free the object. A process that ends without it is taken
 * for dead by the others. NULL: nothing happens. The message of an error is hipcommGetLastError(NULL)'s. */
hipcommResult_t hipcommDestroy(hipcommComm_t comm);

/* Fail the communicator on all ranks, at once: kernels that wait leave, calls return hipcommPeerDied with the
 * reason (NULL: none is given). Not collective. From any thread; it waits for a second at most. */
hipcommResult_t hipcommAbort(hipcommComm_t comm, const char* reason);

/* The number of ranks, this rank's number, and the ordinal of its device. Not collective. */
hipcommResult_t hipcommCount(hipcommComm_t comm, int* count);
hipcommResult_t hipcommUserRank(hipcommComm_t comm, int* rank);
hipcommResult_t hipcommDevice(hipcommComm_t comm, int* device);

/* Make communicators of those ranks that give the same color, in the order of their keys and, where these are
 * equal, of their ranks. color HIPCOMM_NO_COLOR: *part becomes NULL. Each has its own memory, and outlives this one. */
hipcommResult_t hipcommSplit(hipcommComm_t comm, int64_t color, int64_t key, hipcommComm_t* part);

/* Symmetric memory: `bytes` bytes of device memory, as many on all ranks, on which collectives work in place without
 * copies. Its contents are arbitrary. hipcommMemFree() waits for this rank's device; all ranks free the same
 * memory in the same order. It is gone with the communicator. */
hipcommResult_t hipcommMemAlloc(hipcommComm_t comm, void** memory, size_t bytes);
hipcommResult_t hipcommMemFree(hipcommComm_t comm, void* memory);

/* The same for device memory of the caller's own, anywhere in an allocation of hipMalloc; `bytes` bytes on all ranks. It
 * must not be freed before it is deregistered. Both wait for this rank's device. */
hipcommResult_t hipcommRegister(hipcommComm_t comm, void* memory, size_t bytes);
hipcommResult_t hipcommDeregister(hipcommComm_t comm, void* memory);

/* HIPCOMM_VERSION of the library. */
hipcommResult_t hipcommGetVersion(int* version);

/* ---- collectives ----------------------------------------------------------------------------- */

/* recvbuf[i] = op over all ranks of sendbuf[i], i < count. In place: sendbuf == recvbuf. */
hipcommResult_t hipcommAllReduce(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                                 hipcommRedOp_t op, hipcommComm_t comm, hipcommStream_t stream);

/* recvbuf[r * count + i] = rank r's sendbuf[i], i < count. In place: sendbuf == recvbuf + rank * count. */
hipcommResult_t hipcommAllGather(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                                 hipcommComm_t comm, hipcommStream_t stream);

/* recvbuf[i] = the root's sendbuf[i], i < count. sendbuf is read on the root only. */
hipcommResult_t hipcommBroadcast(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                                 int root, hipcommComm_t comm, hipcommStream_t stream);

/* recvbuf[i] = op over all ranks of sendbuf[rank * count + i], i < count. In place: recvbuf == sendbuf +
 * rank * count. */
hipcommResult_t hipcommReduceScatter(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                                     hipcommRedOp_t op, hipcommComm_t comm, hipcommStream_t stream);

/* On the root, recvbuf[i] = op over all ranks of sendbuf[i], i < count; the others' recvbuf is not used.
 * In place: sendbuf == recvbuf. */
hipcommResult_t hipcommReduce(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                              hipcommRedOp_t op, int root, hipcommComm_t comm, hipcommStream_t stream);

/* recvbuf[r * count + i] = rank r's sendbuf[rank * count + i], i < count. Not in place. */
hipcommResult_t hipcommAllToAll(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                                hipcommComm_t comm, hipcommStream_t stream);

/* The same with a count for each pair: rank r gets sendcounts[r] elements from sendbuf +
 * senddispls[r], and recvcounts[r] elements from it arrive at recvbuf + recvdispls[r]. All arrays have one
 * entry per rank; displacements are in elements, NULL: parts are contiguous. A pair's two ranks must agree on
 * its count, and no other rank needs to know it. Not in place. */
hipcommResult_t hipcommAllToAllv(const void* sendbuf, const size_t* sendcounts, const size_t* senddispls,
                                 void* recvbuf, const size_t* recvcounts, const size_t* recvdispls,
                                 hipcommDataType_t dtype, hipcommComm_t comm, hipcommStream_t stream);

/* recvbuf[displs[r] + i] = rank r's sendbuf[i], i < counts[r]; counts and displs are the same on all ranks,
 * displs is NULL if parts are contiguous. In place: sendbuf == recvbuf + displs[rank]. */
hipcommResult_t hipcommAllGatherv(const void* sendbuf, void* recvbuf, const size_t* counts, const size_t* displs,
                                  hipcommDataType_t dtype, hipcommComm_t comm, hipcommStream_t stream);

/* On the root, recvbuf[r * count + i] = rank r's sendbuf[i], i < count; the others' recvbuf is not used. In
 * place on the root: sendbuf == recvbuf + root * count. */
hipcommResult_t hipcommGather(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                              int root, hipcommComm_t comm, hipcommStream_t stream);

/* recvbuf[i] = the root's sendbuf[rank * count + i], i < count; the others' sendbuf is not used. In place on
 * the root: recvbuf == sendbuf + root * count. */
hipcommResult_t hipcommScatter(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                               int root, hipcommComm_t comm, hipcommStream_t stream);

/* All-gather and reduce-scatter along a dimension other than the first. What a rank has of the array lies
 * in `rows` rows of `count` elements; a row of the whole array is the ranks' rows one after the other:
 * whole[(row * world + r) * count + i] is element i of row `row` of rank r. Not in place, unless rows is 1. */
hipcommResult_t hipcommAllGatherRows(const void* sendbuf, void* recvbuf, size_t rows, size_t count,
                                     hipcommDataType_t dtype, hipcommComm_t comm, hipcommStream_t stream);
hipcommResult_t hipcommReduceScatterRows(const void* sendbuf, void* recvbuf, size_t rows, size_t count,
                                         hipcommDataType_t dtype, hipcommRedOp_t op, hipcommComm_t comm,
                                         hipcommStream_t stream);

/* No rank's stream passes before every rank's stream has come here. */
hipcommResult_t hipcommBarrier(hipcommComm_t comm, hipcommStream_t stream);

/* ---- between two ranks --------------------------------------------------------------------------- */

/* Rank peer's recvbuf[i] = sendbuf[i], i < count: the n-th message that a rank sends to another is what that
 * one's n-th receive from it gets. No other rank takes part, and counts of 0 are messages too. Both must be
 * of the same number of bytes: if not, both ends of the channel fail with hipcommCallMismatch, the receiver
 * at that message, the sender in the same or a later send to it. peer must be another rank.
 *
 * A short send (algorithm OneShot of its plan: up to a threshold of the architecture) is over without a
 * receive if fewer than 8 earlier messages to that rank have not been received yet. Any other may wait for
 * its receive, or for those of earlier messages: two ranks that both send each other a long message before
 * they receive wait for each other until the time-out, except in a group. */
hipcommResult_t hipcommSend(const void* sendbuf, size_t count, hipcommDataType_t dtype, int peer,
                            hipcommComm_t comm, hipcommStream_t stream);
hipcommResult_t hipcommRecv(void* recvbuf, size_t count, hipcommDataType_t dtype, int peer, hipcommComm_t comm,
                            hipcommStream_t stream);

/* Sends and receives that this thread makes between the two are launched together, at the end, and do not wait for
 * each other: two ranks that send each other long messages in one group each receive both. Those between two ranks keep
 * their order. Their arguments are checked at the call. On one communicator they are on one stream, which goes on when
 * all of them are done. Groups may be nested; the outermost end counts. Any other call is made at once. A group may be
 * captured, except on the CPU platform. hipcommGroupCancel() ends all nested groups, and nothing is launched. The message
 * of an error of the end is hipcommGetLastError(NULL)'s. */
hipcommResult_t hipcommGroupStart(void);
hipcommResult_t hipcommGroupEnd(void);
hipcommResult_t hipcommGroupCancel(void);

/* ---- norms over rows --------------------------------------------------------------------------------- */

/* A quantised output: codes, and the scales that go with them. Codes may have any alignment; float32 scales, packed and
 * swizzled ones are aligned to 4 bytes. Begin with HIPCOMM_QUANTISED_INITIALIZER. */
typedef struct {
    size_t size;
    hipcommFormat_t format;
    hipcommDataType_t codes_dtype; /* fp8: hipcommFloat8E4M3FN or hipcommFloat8E4M3FNUZ; others: not looked at */
    size_t group;                  /* fp8 per group: 32, 64, 128, 256 or 512 elements; others: 0 */
    hipcommScaleLayout_t layout;
    void* codes;
    size_t codes_stride;      /* bytes from a row's codes to the next row's; 0: there are no gaps */
    void* scales;             /* fp8 with a given scale: one float32 that is read */
    size_t scales_stride;     /* column-major: scales from a column to the next; 0: tokens */
    const void* global_scale; /* NVFP4: a float32 that is read */
} hipcommQuantised;

/* What the codes of one row take, and all scales with what is behind them. No other field than size, format, codes_dtype,
 * group, layout and strides is looked at. */
hipcommResult_t hipcommQuantisedBytes(const hipcommQuantised* quantised, size_t tokens, size_t hidden,
                                      uint64_t* code_bytes, uint64_t* scale_bytes);

/* Residual and norm of `tokens` rows of `hidden` elements: docs/numbers.md has the formulas.
 *
 * v = x + residual, rounded; residual_out = v; out = the norm of v; quantised: of out, whether that is written or not.
 * NULL: no residual, a weight of ones, no bias, and of an output that it is not written; at least one must be. x,
 * residual and outputs are of `dtype`: float16, bfloat16 or float32; weight and bias of that or float32. Rows are
 * `..._stride` elements apart; 0: hidden. An output may be x or residual, in the same rows; otherwise outputs overlap
 * nothing. hidden is 1 to 65536; eps is finite and at least 0, and rounded to float32. Begin with HIPCOMM_NORM_INITIALIZER. */
typedef struct {
    size_t size;
    size_t tokens;
    size_t hidden;
    hipcommDataType_t dtype;
    double eps;
    double weight_offset; /* added to the weight in float32 */
    const void* x;
    size_t x_stride;
    const void* residual;
    size_t residual_stride;
    const void* weight;
    hipcommDataType_t weight_dtype;
    const void* bias; /* layer norm only */
    hipcommDataType_t bias_dtype;
    void* out;
    size_t out_stride;
    void* residual_out;
    size_t residual_out_stride;
    const hipcommQuantised* quantised;
    int sharded; /* all-reduce: not 0: residual and residual_out are only the rows that this rank owns */
} hipcommNorm;

/* On this rank alone, whatever the others do. */
hipcommResult_t hipcommAddRmsNorm(const hipcommNorm* norm, hipcommComm_t comm, hipcommStream_t stream);
hipcommResult_t hipcommAddLayerNorm(const hipcommNorm* norm, hipcommComm_t comm, hipcommStream_t stream);

/* x is the sum over all ranks of their x, as hipcommAllReduce makes it; everything else is replicated: the same on all
 * ranks, and so are the results. The bits are those of hipcommAllReduce followed by the local norm. */
hipcommResult_t hipcommAllReduceRmsNorm(const hipcommNorm* norm, hipcommComm_t comm, hipcommStream_t stream);
hipcommResult_t hipcommAllReduceLayerNorm(const hipcommNorm* norm, hipcommComm_t comm, hipcommStream_t stream);

/* The rows that this rank owns where rows have owners: `count` from `first` on. The first tokens mod world ranks own one
 * row more than the others. */
hipcommResult_t hipcommOwnRows(hipcommComm_t comm, size_t tokens, size_t* first, size_t* count);

/* The owner's rows only: x is all rows, everything else those that this rank owns; scales lie as of those alone. An output
 * may be this rank's rows of x. The bits are those of the all-reduce. */
hipcommResult_t hipcommReduceScatterRmsNorm(const hipcommNorm* norm, hipcommComm_t comm, hipcommStream_t stream);
hipcommResult_t hipcommReduceScatterLayerNorm(const hipcommNorm* norm, hipcommComm_t comm, hipcommStream_t stream);

/* A gather of rows that have owners: in `dtype`, quantised, or both. part and quantised_part are this rank's rows, whole
 * and quantised those of all ranks; scales are put where the layout of either has them, which may differ. Both
 * descriptions are of one format; global scales and given ones are not looked at. part may be this rank's rows of whole.
 * Begin with HIPCOMM_TOKENS_INITIALIZER. */
typedef struct {
    size_t size;
    size_t tokens; /* of all ranks */
    size_t hidden;
    hipcommDataType_t dtype;
    const void* part;
    size_t part_stride;
    void* whole;
    size_t whole_stride;
    const hipcommQuantised* quantised_part;
    const hipcommQuantised* quantised;
} hipcommTokens;
hipcommResult_t hipcommAllGatherTokens(const hipcommTokens* tokens, hipcommComm_t comm, hipcommStream_t stream);

/* RMSNorm of the rows of q and of k where each rank has a part of every row, of equal length on all ranks: q_hidden and
 * k_hidden elements, 1 to 65536. The ranks exchange two sums of squares a row, and nothing else. Weights are this rank's
 * part, of `dtype` or float32; NULL: ones. Of q_out and k_out one may be NULL: not written. v is copied to v_out; both
 * NULL, there is none. An output may be its own input, in the same rows; otherwise outputs overlap nothing. Strides as in
 * hipcommNorm. Begin with HIPCOMM_QKNORM_INITIALIZER. */
typedef struct {
    size_t size;
    size_t tokens;
    size_t q_hidden;
    size_t k_hidden;
    size_t v_hidden; /* of this rank alone */
    hipcommDataType_t dtype;
    double eps;
    const void* q;
    size_t q_stride;
    const void* k;
    size_t k_stride;
    const void* v;
    size_t v_stride;
    const void* q_weight;
    hipcommDataType_t q_weight_dtype;
    const void* k_weight;
    hipcommDataType_t k_weight_dtype;
    void* q_out;
    size_t q_out_stride;
    void* k_out;
    size_t k_out_stride;
    void* v_out;
    size_t v_out_stride;
} hipcommQkNorm;
hipcommResult_t hipcommAllReduceQkNorm(const hipcommQkNorm* norm, hipcommComm_t comm, hipcommStream_t stream);

/* ---- several nodes ----------------------------------------------------------------------------- */

/* An all-reduce over several nodes, each of which has a communicator of its own, of equally many ranks; the program
 * carries the bytes between nodes, by MPI for example. docs/nodes.md says what the bits are, and depend on: rank order
 * within a node, node order between them, one rounding. What Python's worlds over nodes do more is Python's. */
typedef struct {
    int node;
    void* address;
    size_t bytes;
} hipcommTransfer;

/* Exchange with the ranks that have this one's number on other nodes: count pieces to them, and as many from them, of
 * equal sizes on both sides, all at once. Memory of the platform; either it is all done on return, behind what the
 * stream holds, or enqueued on the stream. Not 0: it failed, and so does the communicator (hipcommPlatformError). It must
 * not wait without a bound, and must not touch the memory after it has failed. */
typedef int (*hipcommExchange)(void* context, const hipcommTransfer* sends, const hipcommTransfer* receives, int count,
                               hipcommStream_t stream);

/* Begin with HIPCOMM_NODES_INITIALIZER. */
typedef struct {
    size_t size;
    int node; /* of num_nodes, 2 to 256, in the same order on all of them */
    int num_nodes;
    hipcommExchange exchange;
    void* context; /* for it */
    void* scratch; /* memory of the platform, aligned to 16 bytes, used until the stream has passed the call */
    size_t scratch_bytes;
} hipcommNodes;

/* How much scratch memory a call needs. */
hipcommResult_t hipcommNodesScratch(const hipcommNodes* nodes, size_t count, hipcommDataType_t dtype, hipcommRedOp_t op,
                                    hipcommComm_t comm, size_t* bytes);

/* comm: that of this rank's node. Collective over all nodes. */
hipcommResult_t hipcommNodesAllReduce(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                                      hipcommRedOp_t op, const hipcommNodes* nodes, hipcommComm_t comm,
                                      hipcommStream_t stream);

/* Wait for the stream, then report what went wrong on it, if anything did. */
hipcommResult_t hipcommStreamSynchronize(hipcommComm_t comm, hipcommStream_t stream);

/* ---- while it runs ------------------------------------------------------------------------------- */

/* Have `function` called now and then while a call waits for the peers, or hipcommStreamSynchronize for the stream, in
 * the thread that waits. If it returns another value than 0 the communicator fails, and the call returns
 * hipcommPeerDied within a second. It may call hipcommCommAbort and must make no other call on the communicator. For
 * programs that have to act on signals; a signal handler itself may call hipcommCommAbort, which takes no lock.
 * NULL: no more. */
typedef int (*hipcommInterruptFunction)(void* context);
hipcommResult_t hipcommCommSetInterrupt(hipcommComm_t comm, hipcommInterruptFunction function, void* context);

/* Have `log` called with one line for every collective call: what was called and how it is run. It must
 * not call back into the communicator. NULL: no more. */
typedef void (*hipcommLogFunction)(void* context, const char* line);
hipcommResult_t hipcommCommSetLog(hipcommComm_t comm, hipcommLogFunction log, void* context);

/* Say in which order the elements of the following all-reduces, reductions and broadcasts lie in memory, by any number;
 * 0, as in the beginning: in C order. With `check` the ranks compare these numbers. */
hipcommResult_t hipcommCommSetMemoryOrder(hipcommComm_t comm, uint64_t order);

/* Success, or the failure that the communicator is in. */
hipcommResult_t hipcommCommGetAsyncError(hipcommComm_t comm);

/* The peer that a failure names, or -1. */
int hipcommCommFailedPeer(hipcommComm_t comm);

/* The message of the last error of the communicator; NULL: of the calling thread's last
 * communicator-less call. Valid until the next call on it. Never NULL. */
const char* hipcommGetLastError(hipcommComm_t comm);

const char* hipcommGetResultName(hipcommResult_t result);

/* cffi: end */

#ifdef __cplusplus
}
#endif

#endif /* HIPCOMM_H */
