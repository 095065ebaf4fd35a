/* Every format that crosses the border between two processes of a job.
 *
 * docs/protocol.md says in which order they are sent and who waits for whom. Integers are little-endian and
 * structures have no padding. A text is UTF-8 and has no terminating zero; a char array that is longer than
 * what it holds is filled with zeros.
 *
 * hipcomm/native/build_wire.py makes Python's form of what is between the marks, hipcomm/_wire.py. It strips
 * "hipcommWire" and "HIPCOMM_WIRE_" (for an enumerator the enumeration's name too).
 */
#ifndef HIPCOMM_WIRE_H
#define HIPCOMM_WIRE_H

#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the wire format is little-endian"
#endif

#pragma pack(push, 1)
/* wire: begin */

#define HIPCOMM_WIRE_MAGIC "HIPC"
#define HIPCOMM_WIRE_VERSION 2

#define HIPCOMM_WIRE_MAX_WORLD 1024   /* ranks */
#define HIPCOMM_WIRE_MAX_TOKEN 128    /* bytes; at least 1 */
#define HIPCOMM_WIRE_MAX_TAG 255      /* bytes; at least 1 */
#define HIPCOMM_WIRE_MAX_DATA 1048576 /* bytes that one rank gives to one all-gather */
#define HIPCOMM_WIRE_MAX_TEXT 4096    /* bytes; senders cut longer texts */
#define HIPCOMM_WIRE_MAX_PENDING 64   /* all-gathers that one rank may have under way */
#define HIPCOMM_WIRE_NO_PEER 0xFFFFFFFF

/* Milliseconds that the sides of a connection give each other. */
#define HIPCOMM_WIRE_HANDSHAKE_MS 5000    /* the server: from the accept to a complete JOIN */
#define HIPCOMM_WIRE_ACCEPT_MS 5000       /* a client: from its JOIN to ACCEPTED or REFUSED */
#define HIPCOMM_WIRE_FRAME_MS 30000       /* the server: from the first byte of a frame to its last */
#define HIPCOMM_WIRE_ANSWER_SLACK_MS 2000 /* a client: beyond a time-out, which the server reports */

/* ---- frames: a header and `length` bytes of payload ---------------------------------------------------- */

typedef struct {
    char magic[4];
    uint16_t version;
    uint16_t type; /* a hipcommWireType */
    uint32_t length;
} hipcommWireHeader;

typedef enum {
    /* to the server */
    HIPCOMM_WIRE_TYPE_JOIN = 1,
    HIPCOMM_WIRE_TYPE_GATHER = 2,
    HIPCOMM_WIRE_TYPE_WAITING = 3, /* a text */
    HIPCOMM_WIRE_TYPE_ABORT = 4,
    HIPCOMM_WIRE_TYPE_LEAVE = 5,   /* nothing */
    HIPCOMM_WIRE_TYPE_CLOSING = 6, /* a text: the name of a communicator */
    HIPCOMM_WIRE_TYPE_REPORT = 7,  /* a text */
    /* to a client */
    HIPCOMM_WIRE_TYPE_ACCEPTED = 16, /* nothing */
    HIPCOMM_WIRE_TYPE_WELCOME = 17,
    HIPCOMM_WIRE_TYPE_REFUSED = 18,
    HIPCOMM_WIRE_TYPE_RESULT = 19,
    HIPCOMM_WIRE_TYPE_FAILED = 20,
    HIPCOMM_WIRE_TYPE_PEER_LOST = 21, /* a hipcommWirePeer, as the next two */
    HIPCOMM_WIRE_TYPE_ABORTED = 22,
    HIPCOMM_WIRE_TYPE_PEER_LEFT = 23,
    HIPCOMM_WIRE_TYPE_ASK = 24 /* nothing */
} hipcommWireType;

typedef struct {
    uint32_t rank;
    uint32_t world_size;
    uint32_t timeout_ms; /* at least 1 */
    uint32_t pid;
    char token[HIPCOMM_WIRE_MAX_TOKEN];
} hipcommWireJoin;

typedef struct {
    uint32_t world_size;
} hipcommWireWelcome;

typedef enum {
    HIPCOMM_WIRE_REFUSAL_RANK_OUT_OF_RANGE = 1,
    HIPCOMM_WIRE_REFUSAL_WRONG_WORLD_SIZE = 2,
    HIPCOMM_WIRE_REFUSAL_DUPLICATE_RANK = 3,
    HIPCOMM_WIRE_REFUSAL_WORLD_FULL = 4,
    HIPCOMM_WIRE_REFUSAL_JOIN_TIMEOUT = 5,
    HIPCOMM_WIRE_REFUSAL_PEER_LOST = 6
} hipcommWireRefusal;

typedef struct {
    uint32_t code; /* a hipcommWireRefusal */
    uint32_t peer;
    /* a text */
} hipcommWireRefused;

typedef struct {
    uint32_t request;
    uint32_t sequence;
    uint32_t timeout_ms; /* at least 1 */
    uint16_t group_size; /* 0: the whole world */
    uint16_t tag_length;
    /* uint32_t group[group_size]; char tag[tag_length]; the data */
} hipcommWireGather;

typedef struct {
    uint32_t request;
    uint32_t parts; /* as many as the group has ranks */
    /* uint32_t lengths[parts]; the parts, one after the other */
} hipcommWireResult;

typedef enum {
    HIPCOMM_WIRE_FAILURE_TIMEOUT = 1,
    HIPCOMM_WIRE_FAILURE_PEER_LOST = 2,
    HIPCOMM_WIRE_FAILURE_PEER_LEFT = 3
} hipcommWireFailure;

typedef struct {
    uint32_t request;
    uint32_t code; /* a hipcommWireFailure */
    uint32_t peer;
    /* a text */
} hipcommWireFailed;

typedef struct {
    uint32_t result; /* the hipcommResult_t that the rank ended with; hipcommSuccess: an error of its own */
    /* a text */
} hipcommWireAbort;

typedef struct {
    uint32_t peer;
    uint32_t result; /* ABORTED: that of the ABORT; PEER_LOST: hipcommPeerDied; PEER_LEFT: hipcommSuccess */
    /* a text; with PEER_LEFT the name of the communicator that the peer is closing, empty: it has left the job */
} hipcommWirePeer;

/* ---- a job by id ------------------------------------------------------------------------------------------ */

#define HIPCOMM_WIRE_ID_MAGIC "HCID"

/* What the process that hosts the server hands to the ranks, by whatever way they have. */
typedef struct {
    char magic[4];
    uint32_t port;
    uint32_t pid; /* of the process that hosts the server */
    char host[52];
    char token[64];
} hipcommWireUniqueId;

/* ---- exchanges: what the ranks of a communicator give to an all-gather, by its tag ---------------------- */

/* A tag on the wire is the communicator's name, a slash and one of these; those of SLABS and REGION go on with
 * a slash and a step. The name of all ranks' communicator is HIPCOMM_WIRE_NAME; that of the n-th split of a
 * communicator, from 1, its name, a full stop and n. */
#define HIPCOMM_WIRE_NAME "hipcomm"
#define HIPCOMM_WIRE_TAG_NODES "nodes"               /* hipcommWireNode */
#define HIPCOMM_WIRE_TAG_CARRIER "carrier"           /* status, what the carrier needs of each rank */
#define HIPCOMM_WIRE_TAG_AGREEMENT "agreement"       /* hipcommWireAgreement */
#define HIPCOMM_WIRE_TAG_SLABS "slabs"               /* the control slab and the staging slab */
#define HIPCOMM_WIRE_TAG_READY "ready"               /* nothing */
#define HIPCOMM_WIRE_TAG_REGION "region"             /* one piece of memory */
#define HIPCOMM_WIRE_TAG_DEREGISTER "deregister"     /* status, hipcommWireRegion */
#define HIPCOMM_WIRE_TAG_DEREGISTERED "deregistered" /* nothing */
#define HIPCOMM_WIRE_TAG_EMPTY "empty"               /* status, hipcommWireAllocation */
#define HIPCOMM_WIRE_TAG_FREE "free"                 /* hipcommWireFree */
#define HIPCOMM_WIRE_TAG_SPLIT "split"               /* hipcommWireSplit */
#define HIPCOMM_WIRE_TAG_CLOSE "close"               /* nothing; 1 byte: the communicator has failed here */
#define HIPCOMM_WIRE_TAG_UNMAPPED "unmapped"         /* nothing */

#define HIPCOMM_WIRE_STEP_HANDLES "handles"   /* status, a hipcommWireExport for each piece of memory */
#define HIPCOMM_WIRE_STEP_PATTERNS "patterns" /* status, a hipcommWirePattern for each */
#define HIPCOMM_WIRE_STEP_VERIFIED "verified" /* status */
#define HIPCOMM_WIRE_STEP_NUMBER "number"     /* REGION: status, hipcommWireRegion */

/* Begins an exchange to which a rank may come with a problem: then a text follows and nothing else, and all
 * ranks fail with the text and the result of the lowest such rank. */
typedef struct {
    uint32_t result; /* a hipcommResult_t */
} hipcommWireStatus;

/* Where a rank is, host and boot; and what must be equal on all ranks of a world over nodes. */
typedef struct {
    char host[64]; /* host name */
    char boot[40]; /* the kernel's boot id */
    char version[16];
    char carrier[8];
    uint64_t timeout_us;
    uint32_t context; /* the highest number that a communicator over nodes has had on this rank */
    uint32_t check;
} hipcommWireNode;

/* What must be equal on all ranks, up to arch, and what they need to know of each other. */
typedef struct {
    uint64_t staging_bytes; /* 0: the architecture's own */
    uint64_t timeout_us;
    uint32_t algorithm; /* a hipcommAlgorithm_t */
    uint32_t check;
    uint32_t share_devices;
    char version[16]; /* of hipcomm: kernels of one version meet */
    char arch[32];    /* gcnArchName up to the first colon */
    uint32_t multiprocessors;
    char device[32]; /* PCI bus id */
} hipcommWireAgreement;

/* A part of an allocation, for a peer to map. */
typedef struct {
    uint32_t pid;
    int32_t device;  /* its ordinal in that process */
    char process[8]; /* random; with the pid it tells ranks that are threads of one process */
    uint64_t address;
    uint64_t nbytes; /* of the part */
    uint64_t offset; /* of the part in the allocation */
    char handle[64]; /* the allocation's hipIpcMemHandle_t */
} hipcommWireExport;

/* What a rank has written to the beginning of its memory; of a shorter one, the first bytes. */
typedef struct {
    char pattern[16];
} hipcommWirePattern;

typedef struct {
    int32_t number; /* that the core has given the region */
} hipcommWireRegion;

typedef struct {
    uint64_t nbytes;
    /* uint64_t serials[]: arrays that are garbage on this rank, ascending */
} hipcommWireAllocation;

typedef struct {
    uint64_t serial; /* counts the communicator's allocations, from 0 */
} hipcommWireFree;

typedef struct {
    int64_t color;
    int64_t key;
    uint32_t takes_part; /* 0: this rank is to be in none of the new communicators */
} hipcommWireSplit;

/* wire: end */
#pragma pack(pop)

#ifdef __cplusplus
#define HIPCOMM_WIRE_SIZE(type, size) static_assert(sizeof(type) == (size), #type)
#else
#define HIPCOMM_WIRE_SIZE(type, size) _Static_assert(sizeof(type) == (size), #type)
#endif
HIPCOMM_WIRE_SIZE(hipcommWireHeader, 12);
HIPCOMM_WIRE_SIZE(hipcommWireJoin, 144);
HIPCOMM_WIRE_SIZE(hipcommWireWelcome, 4);
HIPCOMM_WIRE_SIZE(hipcommWireRefused, 8);
HIPCOMM_WIRE_SIZE(hipcommWireGather, 16);
HIPCOMM_WIRE_SIZE(hipcommWireResult, 8);
HIPCOMM_WIRE_SIZE(hipcommWireFailed, 12);
HIPCOMM_WIRE_SIZE(hipcommWireAbort, 4);
HIPCOMM_WIRE_SIZE(hipcommWirePeer, 8);
HIPCOMM_WIRE_SIZE(hipcommWireUniqueId, 128);
HIPCOMM_WIRE_SIZE(hipcommWireStatus, 4);
HIPCOMM_WIRE_SIZE(hipcommWireNode, 144);
HIPCOMM_WIRE_SIZE(hipcommWireAgreement, 112);
HIPCOMM_WIRE_SIZE(hipcommWireExport, 104);
HIPCOMM_WIRE_SIZE(hipcommWirePattern, 16);
HIPCOMM_WIRE_SIZE(hipcommWireRegion, 4);
HIPCOMM_WIRE_SIZE(hipcommWireAllocation, 8);
HIPCOMM_WIRE_SIZE(hipcommWireFree, 8);
HIPCOMM_WIRE_SIZE(hipcommWireSplit, 20);
#undef HIPCOMM_WIRE_SIZE

#endif
