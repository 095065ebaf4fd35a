/* What the host core and the kernels must agree on: argument structs, memory layouts, limits.
 *
 * Plain C, no headers beyond <stdint.h>: the C core (hipcomm/native) includes it as C11, the kernels as
 * C++ for amdgcn, nvptx and the CPU. Every struct is passed to a kernel by value, so it is the
 * kernel's whole argument segment.
 */
#ifndef HIPCOMM_KERNELS_ABI_H
#define HIPCOMM_KERNELS_ABI_H

#include <stdint.h>

#define HIPCOMM_MAX_RANKS 16

/* Most blocks that one launch may have. One epoch word per block lives in the control slab. */
#define HIPCOMM_MAX_BLOCKS 256

/* Most threads of a block of the kernels in which a thread takes a unit of all ranks (kernels/lines/unit.h). */
#define HIPCOMM_MAX_UNIT_THREADS 256

/* What a block knows of its launch, at the beginning of its shared memory (kernels/launch/launch.h). */
#define HIPCOMM_BLOCK_STATE_BYTES 64

/* User data moves in packs of 16 bytes; a pack with its flags is a line of 32 bytes. */
#define HIPCOMM_PACK_BYTES 16
#define HIPCOMM_LINE_BYTES 32
/* A wide line: three packs in the room of two lines. For targets whose 128-bit atomics reach other GPUs (NVIDIA). */
#define HIPCOMM_WIDE_LINE_PACKS 3
#define HIPCOMM_WIDE_LINE_BYTES 64
/* Words of a unit (kernels/lines/unit.h), by the words of data in a part of a line and the bytes of an element. */
#define HIPCOMM_UNIT_WORDS(part_words, element_bytes) \
    ((part_words) == 1 ? HIPCOMM_PACK_BYTES / 4 : (part_words) * ((element_bytes) > 4 ? 2 : 1))

/* ---- control slab -----------------------------------------------------------------------------
 *
 *   offset 0        epoch words, one per block, written only by this rank's kernels
 *   FAULT_CLAIM     taken by the one thread that may fill in the fault record
 *   CHECKED_CALLS   how many calls have been checked (HIPCOMM_CHECK=1): 64 bits
 *   SIGNALS         signals: [parity 2][block][phase][sender], one 64-byte slot each: the signal, then
 *                   (direct kernels, first phase) the sender's send and receive places; second phase, from
 *                   this rank to itself: between its own blocks (kernels/staged/stagger.h)
 *   REGIONS         addresses of registered memory as mapped here: [region][rank], written by the host
 *   CHANNELS        what send and recv use: see below
 *   LINES           flag-in-data lines: [parity 2][line_capacity]
 *
 * Everything a peer writes exists twice, by the parity of the epoch. No rank leaves an epoch before it
 * has heard from every other rank in it; so a rank that is in epoch e knows that all others have left
 * e - 2, and may overwrite what belonged to e - 2. This one rule replaces entry and exit barriers.
 */
#define HIPCOMM_FAULT_CLAIM_OFFSET 2048
#define HIPCOMM_CHECKED_CALLS_OFFSET 2112
#define HIPCOMM_SIGNAL_PHASES 2
#define HIPCOMM_SIGNAL_BYTES 64
#define HIPCOMM_SIGNALS_OFFSET 4096
#define HIPCOMM_SIGNALS_BYTES_PER_PARITY \
    ((uint64_t)HIPCOMM_MAX_BLOCKS * HIPCOMM_SIGNAL_PHASES * HIPCOMM_MAX_RANKS * HIPCOMM_SIGNAL_BYTES)
#define HIPCOMM_MAX_REGIONS 256
#define HIPCOMM_REGIONS_OFFSET (HIPCOMM_SIGNALS_OFFSET + 2 * HIPCOMM_SIGNALS_BYTES_PER_PARITY)
#define HIPCOMM_REGIONS_BYTES ((uint64_t)HIPCOMM_MAX_REGIONS * HIPCOMM_MAX_RANKS * 8)
#define HIPCOMM_CHANNELS_OFFSET (HIPCOMM_REGIONS_OFFSET + HIPCOMM_REGIONS_BYTES)
#define HIPCOMM_LINES_OFFSET (HIPCOMM_CHANNELS_OFFSET + HIPCOMM_CHANNELS_BYTES)

/* ---- channels: what send and recv use (kernels/messages/channel.h) ---------------------------------
 *
 * A channel leads from one rank to one other. Its messages are numbered, by both ends alike, by 32 bits
 * that wrap; nothing of what collectives use is touched. In the control slab, from CHANNELS on:
 *
 *   NUMBERS    the next message: [direction 2][peer][block], written only by this rank's kernels
 *   ARRIVED    staged messages, steps that the peer has sent: [peer][block], number << 32 | steps
 *   TAKEN      what the peer has received of what this rank sends: [peer][block], likewise; DONE is all
 *   REFUSALS   [peer], 64 bytes each: 1 << 32 | number of a message that the peer has expected to be of
 *              another length; the bytes that it has expected; the bytes that were sent
 *   ENVELOPES  what the peer's messages are: [peer][slot], lines: bytes of the message, twice 32 bits
 *   SLOTS      short messages, as lines: [peer][slot][line]
 *
 * and at the end of the staging slab, for long messages, a ring of cells for each block: [peer][block][ring].
 */
#define HIPCOMM_CHANNEL_SLOTS 8u /* short messages that may be on their way before the first is received */
#define HIPCOMM_CHANNEL_RING 2u
#define HIPCOMM_CHANNEL_DONE 0xffffffffu
#define HIPCOMM_CHANNEL_LINES 65536u                     /* for all peers and slots together */
#define HIPCOMM_CHANNEL_STAGING_BYTES 2097152u           /* likewise */
#define HIPCOMM_CHANNEL_LINE_GROUP 64u                   /* a multiple of every target's kLineGroup */

#define HIPCOMM_CHANNEL_NUMBERS_OFFSET HIPCOMM_CHANNELS_OFFSET
#define HIPCOMM_CHANNEL_WORDS (HIPCOMM_MAX_RANKS * HIPCOMM_MAX_BLOCKS) /* of a table [peer][block] */
#define HIPCOMM_CHANNEL_ARRIVED_OFFSET (HIPCOMM_CHANNEL_NUMBERS_OFFSET + 2ull * HIPCOMM_CHANNEL_WORDS * 4)
#define HIPCOMM_CHANNEL_TAKEN_OFFSET (HIPCOMM_CHANNEL_ARRIVED_OFFSET + HIPCOMM_CHANNEL_WORDS * 8ull)
#define HIPCOMM_CHANNEL_REFUSALS_OFFSET (HIPCOMM_CHANNEL_TAKEN_OFFSET + HIPCOMM_CHANNEL_WORDS * 8ull)
#define HIPCOMM_CHANNEL_REFUSAL_BYTES 64u
#define HIPCOMM_CHANNEL_ENVELOPES_OFFSET \
    (HIPCOMM_CHANNEL_REFUSALS_OFFSET + HIPCOMM_MAX_RANKS * HIPCOMM_CHANNEL_REFUSAL_BYTES)
#define HIPCOMM_CHANNEL_ENVELOPES_BYTES (HIPCOMM_CHANNEL_LINE_GROUP * HIPCOMM_LINE_BYTES) /* of a peer */
#define HIPCOMM_CHANNEL_SLOTS_OFFSET \
    (HIPCOMM_CHANNEL_ENVELOPES_OFFSET + HIPCOMM_MAX_RANKS * HIPCOMM_CHANNEL_ENVELOPES_BYTES)
#define HIPCOMM_CHANNELS_BYTES \
    (HIPCOMM_CHANNEL_SLOTS_OFFSET + HIPCOMM_CHANNEL_LINES * HIPCOMM_LINE_BYTES - HIPCOMM_CHANNELS_OFFSET)

/* Lines of one slot, and bytes of staging memory of one channel, in a world of `world` ranks. */
#define HIPCOMM_CHANNEL_SLOT_LINES(world) \
    (HIPCOMM_CHANNEL_LINES / HIPCOMM_CHANNEL_SLOTS / (world) / HIPCOMM_CHANNEL_LINE_GROUP * HIPCOMM_CHANNEL_LINE_GROUP)
#define HIPCOMM_CHANNEL_RING_BYTES(world) (HIPCOMM_CHANNEL_STAGING_BYTES / (world) / 4096 * 4096)

/* A place in registered memory, the same for all ranks to read: region << 48 | offset. */
#define HIPCOMM_PLACE_OFFSET_BITS 48
#define HIPCOMM_NO_PLACE (~0ull)

/* A signal: epoch << 32 | algorithm << 24 | steps. Whoever waits for a signal and finds another
 * algorithm in it knows that the ranks have made different calls. 2^24 steps are 100 GiB and more from one rank
 * to another, with the smallest staging slab. */
#define HIPCOMM_SIGNAL_EPOCH_SHIFT 32
#define HIPCOMM_SIGNAL_ALGORITHM_SHIFT 24
#define HIPCOMM_SIGNAL_STEPS_MASK 0xffffffu

/* Epochs run 2, 3, ..., 2^32 - 1, 2, 3, ...: 0 and 1 mean "never", and parity keeps alternating across
 * the wrap. The sequence number that errors show is epoch - 1: the first call is call 1. */
#define HIPCOMM_FIRST_EPOCH 2u

/* Every 2^30 launches the kernels wipe flags that are older than a full turn of the counter could
 * tell from fresh ones (kernels/launch/epoch.h). */
#define HIPCOMM_SCRUB_PERIOD (1u << 30)

/* Pipelined kernels: turns between writing into staging memory and reading it, and slots of the ring that
 * this takes (kernels/staged/turns.h). */
#define HIPCOMM_TURN_DELAY 2
#define HIPCOMM_RING_SLOTS (2 * HIPCOMM_TURN_DELAY)

/* ---- status page (pinned host memory, mapped into the device) -----------------------------------*/

/* Values of hipcommStatus.abort. Others: 1 + the rank that was lost. */
#define HIPCOMM_ABORT_NONE 0u
#define HIPCOMM_ABORT_JOB 0xffffffffu

enum hipcommFaultKind {
    HIPCOMM_FAULT_NONE = 0,
    HIPCOMM_FAULT_TIMEOUT = 1, /* a peer did not come in time */
    HIPCOMM_FAULT_ABORTED = 2, /* the abort word was set while the kernel waited */
    HIPCOMM_FAULT_MISMATCH = 3, /* a peer runs this epoch with another algorithm */
    HIPCOMM_FAULT_CALLS = 4,    /* two ranks make different calls (HIPCOMM_CHECK=1) */
    HIPCOMM_FAULT_LENGTHS = 5,  /* a message is shorter or longer than its receiver expects */
    HIPCOMM_FAULT_LEFT = 6      /* the rank that is waited for makes no more calls */
};

/* One rank's side of a call that was checked. `call` is operation | dtype << 8 | reduction << 16 |
 * root << 24. sent and received are the bytes of the pair, where each pair has its own. */
typedef struct hipcommCheckedCall {
    uint64_t call;
    uint64_t count;
    uint64_t sent;
    uint64_t received;
} hipcommCheckedCall;

/* abort and fault share one aligned 64-bit word: a waiting kernel looks at both with one load. */
typedef struct hipcommStatus {
    uint32_t abort; /* host -> kernels: leave */
    uint32_t fault; /* kernels -> host: enum hipcommFaultKind, written last */
    uint32_t operation;
    uint32_t algorithm;
    uint32_t peer;
    uint32_t epoch; /* of send and recv: the message's number */
    uint32_t peer_algorithm; /* of a mismatch */
    uint32_t left; /* host -> kernels: bit r: rank r makes no more calls, in good order */
    uint64_t waited_ticks;
    uint64_t checked_calls;        /* of differing calls: which call this is, counted from 1 */
    uint64_t sent_bytes;           /* of a message: what its sender has sent */
    uint64_t expected_bytes;       /* and what its receiver has expected */
    uint32_t ranks[2];             /* and the two ranks */
    hipcommCheckedCall calls[2];   /* and what each of them calls */
    uint64_t host_look;            /* for kernels that run on the host, which waits for them: a function of the host, */
    uint64_t host_context;         /* void (*)(uint64_t), and what it is given; or 0 */
} hipcommStatus;

/* ---- kernel arguments -------------------------------------------------------------------------*/

/* What an 8-bit float format does with the codes that IEEE 754 would use for infinity and NaN. */
enum hipcommFloat8Specials {
    HIPCOMM_FLOAT8_IEEE = 0,          /* infinities and NaNs */
    HIPCOMM_FLOAT8_FINITE = 1,        /* "fn": no infinity; all ones is NaN */
    HIPCOMM_FLOAT8_UNSIGNED_ZERO = 2, /* "fnuz": no infinity, no -0, whose code is the one NaN */
    HIPCOMM_FLOAT8_EXPONENT_ONLY = 3  /* "e8m0fnu": powers of two; all ones is NaN */
};

/* What the kernel for 8-bit floats is told to do: the numbers of hipcommRedOp_t; an average is a sum. */
enum hipcommReduction {
    HIPCOMM_REDUCTION_SUM = 0,
    HIPCOMM_REDUCTION_PROD = 1,
    HIPCOMM_REDUCTION_MAX = 2,
    HIPCOMM_REDUCTION_MIN = 3
};

/* One kernel per algorithm reduces all 8-bit floats: this tells it the format and the reduction. */
typedef struct hipcommFloat8 {
    uint8_t mantissa_bits;
    uint8_t bias;
    uint8_t specials;  /* enum hipcommFloat8Specials */
    uint8_t reduction; /* enum hipcommReduction */
} hipcommFloat8;

/* One struct for every collective kernel: fields a kernel does not need are zero. */
typedef struct hipcommKernelArgs {
    char* own_control; /* control[rank], without the look-up: what every launch reads first */
    const void* send;
    void* recv;
    uint64_t bytes;        /* bytes of the message that this launch moves (per rank for all_gather); of kernels that
                            * take segments: what the plan was made for (reduce_scatter: one rank's part) */
    uint64_t recv_stride;  /* all_gather: bytes between the parts of two ranks in recv */

    uint32_t rank;
    uint32_t world;
    uint32_t blocks;  /* of this launch; all ranks launch the same number */
    uint32_t threads; /* per block */

    uint32_t epoch_slots;   /* epoch words in use: the most blocks any launch may have */
    uint32_t tile_shift;    /* flag-in-data kernels with tiles: log2 of the lines of one tile (one block's step) */
    uint32_t chunk_packs;   /* pipelined kernels: packs of one block's step, over all ranks' shards */
    uint32_t root;        /* send and recv: the other rank */
    uint32_t average;     /* reductions: divide the sum by the world size */
    hipcommFloat8 float8; /* reductions of 8-bit floats */

    uint32_t operation;  /* for the fault record */
    uint32_t algorithm;
    uint64_t timeout_ticks;
    uint64_t line_capacity; /* lines per parity in the control slab */
    uint64_t staging_bytes; /* bytes per parity in the staging slab; behind both, the channels' cells */

    hipcommStatus* status;
    char* control[HIPCOMM_MAX_RANKS]; /* every rank's control slab, as mapped here */
    char* staging[HIPCOMM_MAX_RANKS];

    uint64_t send_place; /* direct kernels: where send and recv are, for the peers; or HIPCOMM_NO_PLACE */
    uint64_t recv_place;
} hipcommKernelArgs;

/* What this rank sends to, and receives from, one rank (itself included): bytes from the beginning of
 * send and recv. */
typedef struct hipcommSegment {
    uint64_t send_offset;
    uint64_t send_bytes;
    uint64_t recv_offset;
    uint64_t recv_bytes;
} hipcommSegment;

/* hipcommKernelArgs.root of a reduce_scatter, whose kernels it shares with reduce. */
#define HIPCOMM_NO_ROOT 0xffffffffu

/* For kernels that treat every peer differently. Segments on one side (recv for exchange, send for
 * reductions) may lie in rows: row_bytes bytes each, row_stride bytes apart. */
typedef struct hipcommSegmentArgs {
    hipcommKernelArgs common;
    uint64_t row_bytes;
    uint64_t row_stride;
    uint64_t first_pack; /* flag-in-data: this launch moves packs first_pack, ... */
    uint64_t most_packs; /* ... this many of each segment, or what is left of it */
    uint64_t line_bytes; /* exchange: segments of up to this many bytes go as lines, longer ones staged */
    hipcommSegment segments[HIPCOMM_MAX_RANKS];
} hipcommSegmentArgs;

/* For the kernel that checks calls: this rank's side, and the bytes of each pair where they differ. */
typedef struct hipcommCheckArgs {
    hipcommKernelArgs common;
    uint64_t call; /* as in hipcommCheckedCall */
    uint64_t count;
    uint64_t sent[HIPCOMM_MAX_RANKS];
    uint64_t received[HIPCOMM_MAX_RANKS];
} hipcommCheckArgs;

#endif
