/* Signals between the same block of all ranks: "my stores up to step s are done", release and acquire
 * at system scope. A signal holds the epoch and the number of steps done. */
#pragma once

#include "launch.h"

DEVICE uint64_t* signal_slot_by_index(const Launch& launch, uint32_t rank, uint32_t parity, uint64_t index) {
    return reinterpret_cast<uint64_t*>(launch.args.control[rank] + HIPCOMM_SIGNALS_OFFSET +
                                       parity * HIPCOMM_SIGNALS_BYTES_PER_PARITY + index * HIPCOMM_SIGNAL_BYTES);
}

/* Where `sender` leaves word for `rank`. */
DEVICE uint64_t* signal_slot(const Launch& launch, uint32_t rank, uint32_t phase, uint32_t sender) {
    const uint64_t index =
        (uint64_t(launch.geometry.block) * HIPCOMM_SIGNAL_PHASES + phase) * HIPCOMM_MAX_RANKS + sender;
    return signal_slot_by_index(launch, rank, launch.parity(), index);
}

/* One thread: tell `peer`; what it tells of happened before a block_barrier(). */
DEVICE void signal_one(const Launch& launch, uint32_t peer, uint32_t phase, uint32_t steps) {
    store_release(signal_slot(launch, peer, phase, launch.args.rank), uint64_t(launch.epoch) << 32 | steps);
}

/* All threads: tell `peer` that this block has done `steps` steps of `phase`. */
DEVICE void signal_peers(const Launch& whole_launch, uint32_t phase, uint32_t steps) {
    const Launch launch = new_phase(whole_launch);
    block_barrier(); /* the stores of all threads come before the one release */
    const Geometry& g = launch.geometry;
    for (uint32_t peer = g.thread; peer < launch.args.world; peer += g.threads)
        if (peer != launch.args.rank) signal_one(launch, peer, phase, steps);
}

DEVICE void wait_for_signal(const Launch& launch, uint32_t peer, uint32_t phase, uint32_t steps) {
    const uint64_t* slot = signal_slot(launch, launch.args.rank, phase, peer);
    /* the fence once, at the end: in the loop it would hold up every look */
    wait_until(launch, peer, [&] {
        const uint64_t signal = load_relaxed(slot);
        return uint32_t(signal >> 32) == launch.epoch && uint32_t(signal) >= steps;
    });
    acquire_system();
}

/* All threads: wait until every peer has done `steps` steps of `phase`; false in all threads if the
 * block has failed. */
DEVICE bool wait_for_peers(const Launch& whole_launch, uint32_t phase, uint32_t steps) {
    const Launch launch = new_phase(whole_launch);
    const Geometry& g = launch.geometry;
    for (uint32_t peer = g.thread; peer < launch.args.world; peer += g.threads)
        if (peer != launch.args.rank) wait_for_signal(launch, peer, phase, steps);
    block_barrier(); /* the acquires of a few threads come before the loads of all */
    return !block_failed(launch);
}

/* All threads: wait until one peer has done `steps` steps of `phase`; the result as above. */
DEVICE bool wait_for_peer(const Launch& launch, uint32_t peer, uint32_t phase, uint32_t steps) {
    if (launch.geometry.thread == 0) wait_for_signal(launch, peer, phase, steps);
    block_barrier();
    return !block_failed(launch);
}
