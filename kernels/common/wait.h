/* Waiting without ever hanging. */
#pragma once

#include "signal_slot.h"

/* Write the fault record, once per communicator, and make this block (and, through the fault word,
 * every other waiting block) leave. */
DEVICE void give_up(const Launch& launch, uint32_t peer, uint32_t kind, uint64_t waited,
                    uint32_t peer_algorithm = 0) {
    store_scratch(&block_state(launch)->failed, 1);
    auto* claim = reinterpret_cast<uint32_t*>(launch.own_control() + HIPCOMM_FAULT_CLAIM_OFFSET);
    if (exchange(claim, 1) != 0) return;
    volatile hipcommStatus* status = launch.args.status;
    status->operation = launch.args.operation;
    status->algorithm = launch.args.algorithm;
    status->peer = peer;
    status->peer_algorithm = peer_algorithm;
    status->epoch = launch.epoch;
    status->block = launch.geometry.block;
    status->waited_ticks = waited;
    store_release(&launch.args.status->fault, kind);
}

/* Leave if some peer runs this epoch with another algorithm: nobody can finish it then. Those who run
 * that one may be waiting for lines of this rank, which say nothing of an algorithm; so tell everybody. */
DEVICE bool give_up_if_mismatched(const Launch& launch) {
    NO_UNROLL
    for (uint32_t peer = 0; peer < launch.args.world; ++peer) {
        if (peer == launch.args.rank) continue;
        const uint64_t signal = load_relaxed(signal_slot(launch, launch.args.rank, 0, peer));
        if (!is_of_this_epoch(launch, signal) || algorithm_of(signal) == launch.args.algorithm) continue;
        NO_UNROLL
        for (uint32_t other = 0; other < launch.args.world; ++other)
            if (other != launch.args.rank)
                store_release(signal_slot(launch, other, 0, launch.args.rank), make_signal(launch, 0));
        give_up(launch, peer, HIPCOMM_FAULT_MISMATCH, 0, algorithm_of(signal));
        return true;
    }
    return false;
}

/* Spin until ready() or until waiting is pointless: the abort word is set, another block has failed, the
 * ranks run different algorithms, or the peer is later than the time-out. ready() must be free of side
 * effects that a repeat would spoil. */
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
        if (give_up_if_mismatched(launch)) return;
        if (now - started > launch.args.timeout_ticks)
            return give_up(launch, peer, HIPCOMM_FAULT_TIMEOUT, now - started);
    }
}
