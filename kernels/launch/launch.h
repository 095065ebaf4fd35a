/* One launch, as one thread sees it. */
#pragma once

#include "../arch/arch.h"

struct Launch {
    const hipcommKernelArgs& args;
    const Geometry geometry;
    const uint32_t epoch;

    DEVICE_MEMBER uint32_t parity() const { return epoch & 1; }

    /* What lines and signals of this launch carry. Never 0: that is what wiped memory says. */
    DEVICE_MEMBER uint32_t flag() const {
        return args.call_hash << HIPCOMM_FLAG_EPOCH_BITS | (epoch & ((1u << HIPCOMM_FLAG_EPOCH_BITS) - 1));
    }
};

/* The same launch at the start of a phase: nothing that earlier phases have computed from the arguments
 * stays alive in registers. */
DEVICE Launch new_phase(const Launch& launch) {
    const hipcommKernelArgs& args = reload_args(launch.args);
    const Geometry& g = launch.geometry;
    return {args, Geometry{g.thread, args.threads, g.block, args.blocks, g.shared}, launch.epoch};
}

/* A part of a block's threads, in eighths of the block: phases that do not wait for each other are done side
 * by side, so that the latency of one is not added to that of the next. A block of one thread is all parts. */
struct Part {
    uint32_t first, eighths;
};

DEVICE bool is_in(const Launch& launch, Part part) {
    if constexpr (kOneThread) return true;
    const uint32_t eighth = new_phase(launch).geometry.threads / 8;
    return launch.geometry.thread - part.first * eighth < part.eighths * eighth; /* both bounds: unsigned */
}

/* The same launch for the threads of a part, at the start of a phase. */
DEVICE Launch new_phase_of(const Launch& launch, Part part) {
    const Launch whole = new_phase(launch);
    if constexpr (kOneThread) return whole;
    const Geometry& g = whole.geometry;
    const uint32_t eighth = g.threads / 8;
    return {whole.args, Geometry{g.thread - part.first * eighth, part.eighths * eighth, g.block, g.blocks, g.shared},
            whole.epoch};
}

/* The first words of a block's scratch; tiles follow at kTileOffset. */
struct BlockState {
    uint32_t failed; /* some thread gave up waiting: the block sends nothing more, and leaves */
    uint32_t mismatched; /* because a peer makes another call */
    uint32_t leave[2]; /* turns.h: the block leaves after this turn, by its parity */
    uint32_t behind_failure; /* an earlier launch gave up; as begin_launch() leaves it, to the end of the launch */
};
constexpr uint32_t kTileOffset = HIPCOMM_BLOCK_STATE_BYTES;
static_assert(sizeof(BlockState) <= kTileOffset, "tiles would overwrite it");

DEVICE BlockState* block_state(const Launch& launch) {
    return reinterpret_cast<BlockState*>(launch.geometry.shared);
}
DEVICE Pack* tile_memory(const Launch& launch) {
    return reinterpret_cast<Pack*>(launch.geometry.shared + kTileOffset);
}

/* All threads, at the beginning of a launch; a block_barrier() must follow. Where an earlier launch has given up, this
 * one has failed from the start. Launches after a failed one come from graphs, and from a host that was ahead. */
DEVICE void clear_block_state(const Launch& launch) {
    if (launch.geometry.thread != 0) return;
    const auto* claim = reinterpret_cast<const uint32_t*>(launch.args.own_control + HIPCOMM_FAULT_CLAIM_OFFSET);
    const uint32_t given_up = load_relaxed(claim);
    store_scratch(&block_state(launch)->failed, given_up);
    store_scratch(&block_state(launch)->behind_failure, given_up);
    store_scratch(&block_state(launch)->mismatched, 0);
    store_scratch(&block_state(launch)->leave[0], 0);
    store_scratch(&block_state(launch)->leave[1], 0);
}

/* True in all threads of the block or in none, when called right after a block_barrier() that
 * follows the waits. A block that has failed must not send: its peers would take unfinished data for
 * good. */
DEVICE bool block_failed(const Launch& launch) {
    return load_scratch(&block_state(launch)->failed) != 0;
}

/* Whether an earlier launch has given up; the same in all threads of the block, at any time. Such a launch must send
 * nothing. Its input may be what the failed one has not finished, and a peer that comes just late enough to find all
 * that was sent before the failure would take it for good. And the failed launch left its epoch without having heard
 * from all peers, so a slow one may still be reading, in the epoch before, what this launch would overwrite. */
DEVICE bool is_behind_failure(const Launch& launch) {
    return load_scratch(&block_state(launch)->behind_failure) != 0;
}
