/* Channels: what send and recv move their messages through. hipcomm/abi/slabs.h has the layout.
 *
 * A channel leads from one rank to one other, and both ends number its messages alike. The number is kept
 * as the epoch is (epoch.h): a word per block, which no other block reads, and a launch of b blocks
 * advances all words, block i those of i, i + b, i + 2b, ... The receiver acknowledges a message in the same
 * way, so it has taken a message when all words of TAKEN say so.
 *
 *   short messages  lie as lines, flagged with their number, in slot number % SLOTS of the receiver's slab.
 *                   A sender waits only for the message that had this slot before.
 *   long ones       go through a ring of cells for each block, step by step. The message before must have
 *                   been taken: blocks divide the ring's memory as each message's plan says.
 *
 * Every message has an envelope, one line, which says how long it is and of what dtype: a receiver that expects
 * another length or dtype refuses it, and the sender's waits see the refusal.
 *
 * A launch here has the message's number for its epoch, and parity has no meaning.
 */
#pragma once

#include "../launch/line.h"
#include "../data/staging.h"

enum Direction : uint32_t { kSending, kReceiving };

/* ---- where things are --------------------------------------------------------------------------------*/

/* Own slab: the number of the next message, for each block. */
DEVICE uint32_t* message_numbers(const hipcommKernelArgs& args, Direction direction) {
    return reinterpret_cast<uint32_t*>(args.own_control + HIPCOMM_CHANNEL_NUMBERS_OFFSET) +
           (direction * HIPCOMM_MAX_RANKS + args.root) * HIPCOMM_MAX_BLOCKS;
}

/* The words of a table [peer][block], in the slab of `rank`. */
DEVICE uint64_t* channel_words(const Launch& launch, uint64_t table, uint32_t rank, uint32_t peer) {
    return reinterpret_cast<uint64_t*>(launch.args.control[rank] + table) + peer * HIPCOMM_MAX_BLOCKS;
}
DEVICE uint64_t* arrived_words(const Launch& launch, uint32_t receiver, uint32_t sender) {
    return channel_words(launch, HIPCOMM_CHANNEL_ARRIVED_OFFSET, receiver, sender);
}
DEVICE uint64_t* taken_words(const Launch& launch, uint32_t sender, uint32_t receiver) {
    return channel_words(launch, HIPCOMM_CHANNEL_TAKEN_OFFSET, sender, receiver);
}
DEVICE uint64_t* refusal_words(const Launch& launch, uint32_t sender, uint32_t receiver) {
    return reinterpret_cast<uint64_t*>(launch.args.control[sender] + HIPCOMM_CHANNEL_REFUSALS_OFFSET +
                                       receiver * HIPCOMM_CHANNEL_REFUSAL_BYTES);
}

DEVICE uint32_t slot_of(const Launch& launch) { return launch.epoch % HIPCOMM_CHANNEL_SLOTS; }

DEVICE char* envelope_line(const Launch& launch, uint32_t receiver, uint32_t sender) {
    return line_of<kPackWords>(launch.args.control[receiver] + HIPCOMM_CHANNEL_ENVELOPES_OFFSET +
                       sender * HIPCOMM_CHANNEL_ENVELOPES_BYTES,
                   slot_of(launch));
}

/* Line `pack` of the message's slot. */
DEVICE char* slot_line(const Launch& launch, uint32_t receiver, uint32_t sender, uint32_t pack) {
    const uint32_t lines = HIPCOMM_CHANNEL_SLOT_LINES(launch.args.world);
    return line_of<kPackWords>(launch.args.control[receiver] + HIPCOMM_CHANNEL_SLOTS_OFFSET,
                   (sender * HIPCOMM_CHANNEL_SLOTS + slot_of(launch)) * lines + pack);
}

/* The cell of this block that step `step` of a long message goes through. */
DEVICE char* channel_cell(const Launch& launch, uint32_t receiver, uint32_t sender, uint32_t step) {
    const hipcommKernelArgs& args = launch.args;
    const uint64_t cell = uint64_t(launch.geometry.block) * HIPCOMM_CHANNEL_RING + step % HIPCOMM_CHANNEL_RING;
    return args.staging[receiver] + 2 * args.staging_bytes + sender * HIPCOMM_CHANNEL_RING_BYTES(args.world) +
           cell * args.chunk_packs * HIPCOMM_PACK_BYTES;
}

/* ---- words -------------------------------------------------------------------------------------------*/

DEVICE uint64_t channel_word(uint32_t number, uint32_t steps) { return uint64_t(number) << 32 | steps; }

/* Whether a word says that `steps` steps of message `number` are done. Numbers wrap; no two that are
 * compared are far apart. */
DEVICE bool says_done(uint64_t word, uint32_t number, uint32_t steps) {
    const int32_t ahead = int32_t(uint32_t(word >> 32) - number);
    return ahead > 0 || (ahead == 0 && uint32_t(word) >= steps);
}

/* What the ends of a channel must agree on: bytes, and the dtype above them. */
DEVICE uint64_t extent_of_message(const Launch& launch) {
    return uint64_t(launch.args.call_hash) << HIPCOMM_MESSAGE_DTYPE_SHIFT | launch.args.bytes;
}

DEVICE bool is_staged(const Launch& launch) { return launch.args.chunk_packs != 0; }

/* ---- a launch ----------------------------------------------------------------------------------------*/

DEVICE Launch begin_message(const hipcommKernelArgs& args, const Geometry& geometry, Direction direction) {
    const Launch launch{args, geometry, load_relaxed(message_numbers(args, direction) + geometry.block)};
    clear_block_state(launch);
    block_barrier();
    return launch;
}

/* To be called by all threads, also after a failure: the number moves on in any case. */
DEVICE void end_message(const Launch& whole_launch, Direction direction) {
    const Launch launch = new_phase(whole_launch);
    const Geometry& g = launch.geometry;
    block_barrier(); /* thread 0 of a fast warp must not advance the word before a slow warp reads it */
    for (uint32_t word = g.block + g.blocks * g.thread; word < launch.args.epoch_slots;
         word += g.blocks * g.threads)
        store_relaxed(message_numbers(launch.args, direction) + word, launch.epoch + 1);
}

/* ---- waiting -----------------------------------------------------------------------------------------*/

/* Give up if the other rank is too late or has left, or if the job has failed. */
DEVICE bool give_up_if_late(const Launch& whole_launch, uint64_t& started) {
    const uint64_t now = clock_ticks(), waited = ticks_waited(started, now);
    const Launch launch = new_phase(whole_launch);
    note_wait(whole_launch, launch.args.root, waited, now);
    uint32_t kind = waited > launch.args.timeout_ticks ? HIPCOMM_FAULT_TIMEOUT : HIPCOMM_FAULT_NONE;
    if (has_left(whole_launch, launch.args.root, started)) kind = HIPCOMM_FAULT_LEFT;
    if (is_called_off(whole_launch, now)) kind = HIPCOMM_FAULT_ABORTED;
    if (kind == HIPCOMM_FAULT_NONE) return false;
    give_up(whole_launch, launch.args.root, kind, waited, 0);
    return true;
}

/* Make this block leave, and record that the ends of the channel differ in a message's extent. */
DEVICE void give_up_on_lengths(const Launch& whole_launch, uint32_t number, uint64_t sent, uint64_t expected) {
    const Launch launch = new_phase(whole_launch);
    if (!claim_fault(launch)) return;
    volatile hipcommStatus* status = launch.args.status;
    status->operation = launch.args.operation;
    status->algorithm = launch.args.algorithm;
    status->peer = launch.args.root;
    status->epoch = number;
    status->sent_bytes = sent;
    status->expected_bytes = expected;
    store_release(&launch.args.status->fault, uint32_t(HIPCOMM_FAULT_LENGTHS));
}
