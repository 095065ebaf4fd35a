/* One launch, as one thread sees it: the epoch, and waiting without ever hanging. */
#pragma once

#include "../arch/arch.h"

struct Launch {
    const hipcommKernelArgs& args;
    const Geometry geometry;
    const uint32_t epoch;

    DEVICE_MEMBER uint32_t parity() const { return epoch & 1; }
    DEVICE_MEMBER char* own_control() const { return args.own_control; }
};

/* The same launch at the start of a phase: nothing that earlier phases have computed from the arguments
 * stays alive in registers. */
DEVICE Launch new_phase(const Launch& launch) {
    return {reload_args(launch.args), launch.geometry, launch.epoch};
}

/* The first words of a block's scratch; tiles follow at kTileOffset. */
struct BlockState {
    uint32_t failed; /* some thread gave up waiting: the block sends nothing more, and leaves */
};
constexpr uint32_t kTileOffset = 64;

DEVICE BlockState* block_state(const Launch& launch) {
    return reinterpret_cast<BlockState*>(launch.geometry.shared);
}
DEVICE Pack* tile_memory(const Launch& launch) {
    return reinterpret_cast<Pack*>(launch.geometry.shared + kTileOffset);
}

/* True in all threads of the block or in none, when called right after a block_barrier() that
 * follows the waits. A block that has failed must not send: its peers would take unfinished data for
 * good. */
DEVICE bool block_failed(const Launch& launch) {
    return load_scratch(&block_state(launch)->failed) != 0;
}

/* Write the fault record, once per communicator, and make this block (and, through the fault word,
 * every other waiting block) leave. */
DEVICE void give_up(const Launch& launch, uint32_t peer, uint32_t kind, uint64_t waited) {
    store_scratch(&block_state(launch)->failed, 1);
    auto* claim = reinterpret_cast<uint32_t*>(launch.own_control() + HIPCOMM_FAULT_CLAIM_OFFSET);
    if (exchange(claim, 1) != 0) return;
    volatile hipcommStatus* status = launch.args.status;
    status->operation = launch.args.operation;
    status->algorithm = launch.args.algorithm;
    status->peer = peer;
    status->epoch = launch.epoch;
    status->block = launch.geometry.block;
    status->waited_ticks = waited;
    store_release(&launch.args.status->fault, kind);
}

/* Spin until ready() or until waiting is pointless: the abort word is set, another block has failed,
 * or the peer is later than the time-out. ready() must be free of side effects that a repeat would
 * spoil. */
template <class Ready>
DEVICE void wait_until(const Launch& launch, uint32_t peer, Ready ready) {
    uint64_t started = 0;
    for (uint32_t spins = 1; !ready(); ++spins) {
        spin_pause(spins);
        if (!UNLIKELY(spins % kSpinsPerCheck == 0)) continue;
        const uint64_t now = clock_ticks();
        if (started == 0) started = now;
        /* abort and fault in one load */
        if (load_relaxed(reinterpret_cast<const uint64_t*>(launch.args.status)) != 0)
            return give_up(launch, peer, HIPCOMM_FAULT_ABORTED, now - started);
        if (now - started > launch.args.timeout_ticks)
            return give_up(launch, peer, HIPCOMM_FAULT_TIMEOUT, now - started);
    }
}
