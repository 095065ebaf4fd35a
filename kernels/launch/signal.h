/* Signals between the same block of all ranks: "my stores up to step s are done", release and acquire
 * at system scope. */
#pragma once

#include "wait.h"

/* One thread: tell `peer`; what it tells of happened before a block_barrier(). */
DEVICE void signal_one(const Launch& launch, uint32_t peer, uint32_t phase, uint32_t steps) {
    store_release(signal_slot(launch, peer, phase, launch.args.rank), make_signal(launch, steps));
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
        return is_of_this_launch(launch, signal) && algorithm_of(signal) == launch.args.algorithm &&
               steps_of(signal) >= steps;
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
