/* What is where in the two slabs of a rank, and what the words in them say. Every rank reads and writes every
 * other's: the C core and the kernels include this file.
 */
#ifndef HIPCOMM_ABI_SLABS_H
#define HIPCOMM_ABI_SLABS_H

#include <stdint.h>

#include "limits.h"

/* A pack of data with its flags. */
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
 *   TOLD            what call a rank makes: [parity 2][sender], a signal of no steps. Written where a wait takes long
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
#define HIPCOMM_TOLD_OFFSET 2176
#define HIPCOMM_SIGNAL_PHASES 2
#define HIPCOMM_SIGNAL_BYTES 64
#define HIPCOMM_SIGNALS_OFFSET 4096
#define HIPCOMM_SIGNALS_BYTES_PER_PARITY \
    ((uint64_t)HIPCOMM_MAX_BLOCKS * HIPCOMM_SIGNAL_PHASES * HIPCOMM_MAX_RANKS * HIPCOMM_SIGNAL_BYTES)
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
 *              another extent; the extent that it has expected; the extent that was sent
 *   ENVELOPES  what the peer's messages are: [peer][slot], lines: the extent of the message, twice 32 bits
 *   SLOTS      short messages, as lines: [peer][slot][line]
 *
 * and at the end of the staging slab, for long messages, a ring of cells for each block: [peer][block][ring].
 */
#define HIPCOMM_CHANNEL_SLOTS 8u /* short messages that may be on their way before the first is received */
#define HIPCOMM_CHANNEL_RING 2u
#define HIPCOMM_MESSAGE_DTYPE_SHIFT 56 /* an extent: dtype << 56 | bytes */
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

/* What says that a line or a signal is of this launch: a hash of the call, from 1 on, above the last bits of the
 * epoch. Ranks whose calls differ, and whose hashes do, find nothing of each other's. */
#define HIPCOMM_FLAG_EPOCH_BITS 24
#define HIPCOMM_FLAG_HASH_BITS 8

/* A signal: flag << 32 | algorithm << 24 | steps. Whoever waits for a signal and finds another
 * algorithm in it knows that the ranks have made different calls. 2^24 steps are 100 GiB and more from one rank
 * to another, with the smallest staging slab. */
#define HIPCOMM_SIGNAL_FLAG_SHIFT 32
#define HIPCOMM_SIGNAL_ALGORITHM_SHIFT 24
#define HIPCOMM_SIGNAL_STEPS_MASK 0xffffffu

/* Epochs run 2, 3, ..., 2^32 - 1, 2, 3, ...: 0 and 1 mean "never", and parity keeps alternating across
 * the wrap. The sequence number that errors show is epoch - 1: the first call is call 1. */
#define HIPCOMM_FIRST_EPOCH 2u

/* Every 2^22 launches the kernels wipe flags that are older than a full turn of the epoch's bits in them could
 * tell from fresh ones (kernels/launch/epoch.h). */
#define HIPCOMM_SCRUB_PERIOD (1u << 22)
/* The same for messages, whose lines are flagged with their number (kernels/messages/recv.hip). */
#define HIPCOMM_MESSAGE_SCRUB_PERIOD (1u << 30)

/* Pipelined kernels: turns between writing into staging memory and reading it, and slots of the ring that
 * this takes (kernels/staged/turns.h). */
#define HIPCOMM_TURN_DELAY 2
#define HIPCOMM_RING_SLOTS (2 * HIPCOMM_TURN_DELAY)

#endif
