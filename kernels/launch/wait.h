/* Waiting without ever hanging. */
#pragma once

#include "signal_slot.h"

/* Make this block leave, and claim the fault record: true for the one thread that may write it, once per
 * communicator. */
DEVICE bool claim_fault(const Launch& launch) {
    store_scratch(&block_state(launch)->failed, 1);
    return exchange(reinterpret_cast<uint32_t*>(launch.args.own_control + HIPCOMM_FAULT_CLAIM_OFFSET), 1) == 0;
}

/* Write the fault record, and make this block (and, through the fault word, every other waiting block)
 * leave. */
DEVICE void give_up(const Launch& whole_launch, uint32_t peer, uint32_t kind, uint64_t waited,
                    uint32_t peer_algorithm) {
    const Launch launch = new_phase(whole_launch);
    if (kind == HIPCOMM_FAULT_MISMATCH) store_scratch(&block_state(launch)->mismatched, 1);
    if (!claim_fault(launch)) return;
    volatile hipcommStatus* status = launch.args.status;
    status->operation = launch.args.operation;
    status->algorithm = launch.args.algorithm;
    status->peer = peer;
    status->peer_algorithm = peer_algorithm;
    status->epoch = launch.epoch;
    status->waited_ticks = waited;
    store_release(&launch.args.status->fault, kind);
}

/* Tell a rank what call this one makes, so that it can find out that its own is another: it may be waiting for lines
 * and signals that will not come. No data belongs to this. */
DEVICE void tell_call(const Launch& launch, uint32_t peer) {
    if (peer != launch.args.rank)
        store_relaxed(told_slot(launch, peer, launch.parity(), launch.args.rank), make_signal(launch, 0));
}

/* All threads: a block that has found out that calls differ tells everybody. */
DEVICE void tell_of_mismatch(const Launch& whole_launch) {
    if (!load_scratch(&block_state(whole_launch)->mismatched)) return;
    const Launch launch = new_phase(whole_launch);
    for (uint32_t peer = launch.geometry.thread; peer < launch.args.world; peer += launch.geometry.threads)
        tell_call(launch, peer);
}

/* What a wait knows of its time: when it looked at the clock first, in units of kLookTicks; below, 1 + the rank that
 * it was waiting for and that had left the job by the look before. In one word, as it lives while the wait spins. */
constexpr uint64_t kLookTicks = 2 * HIPCOMM_MAX_RANKS;

DEVICE uint64_t ticks_waited(uint64_t& started, uint64_t now) {
    if (started == 0) started = now / kLookTicks * kLookTicks;
    return now - started / kLookTicks * kLookTicks;
}

/* Whether `peer` has left in good order, and no data of it can be on its way: at the second look, for in between
 * the wait has looked at all that the peer had sent when it left. */
DEVICE bool has_left(const Launch& whole_launch, uint32_t peer, uint64_t& started) {
    const Launch launch = new_phase(whole_launch);
    if (!(load_relaxed(&launch.args.status->left) >> peer & 1)) return false;
    if (started % kLookTicks == 1 + peer) return true;
    acquire_system(); /* the host has heard of it after the data was there */
    started = started / kLookTicks * kLookTicks + 1 + peer;
    return false;
}

/* Whether this launch has to end: abort word and fault word in one load. */
DEVICE bool is_called_off(const Launch& whole_launch, uint64_t now) {
    hipcommStatus* const status = new_phase(whole_launch).args.status;
    let_host_look(status, now);
    return load_relaxed(reinterpret_cast<const uint64_t*>(status)) != 0;
}

/* Let the host know of a wait that takes long. A few threads of many: it goes over the bus. */
DEVICE void note_wait(const Launch& whole_launch, uint32_t peer, uint64_t waited, uint64_t now) {
    const Launch launch = new_phase(whole_launch);
    if (launch.geometry.block != 0 || launch.geometry.thread >= launch.args.world) return;
    hipcommStatus* const status = launch.args.status;
    store_relaxed(&status->wait_what, uint64_t(launch.epoch) << 32 | launch.args.operation << 16 |
                                          launch.args.algorithm << 8 | peer);
    store_relaxed(&status->wait_ticks, waited);
    store_relaxed(&status->wait_looked, now);
}

/* Give up if waiting is pointless. check: how often this has been asked. */
DEVICE bool give_up_if_pointless(const Launch& whole_launch, uint32_t peer, uint32_t check, uint64_t& started) {
    const uint64_t now = clock_ticks(), waited = ticks_waited(started, now);
    note_wait(whole_launch, peer, waited, now);
    uint32_t kind = HIPCOMM_FAULT_NONE;
    if (waited > new_phase(whole_launch).args.timeout_ticks) kind = HIPCOMM_FAULT_TIMEOUT;
    if (has_left(whole_launch, peer, started)) kind = HIPCOMM_FAULT_LEFT;
    /* Nobody can finish an epoch in which ranks make different calls. Slots of ranks that do not exist, and of
     * this one, stay empty. */
    const Launch launch = new_phase(whole_launch);
    tell_call(launch, peer);
    uint64_t signal = 0;
    for (uint32_t k = 0; k < kSignalsPerCheck; ++k) {
        const uint32_t other = (check * kSignalsPerCheck + k) % HIPCOMM_MAX_RANKS;
        signal = load_relaxed(told_slot(launch, launch.args.rank, launch.parity(), other));
        if (is_of_another_call(launch, signal)) {
            kind = HIPCOMM_FAULT_MISMATCH;
            peer = other;
            break;
        }
    }
    if (is_called_off(whole_launch, now)) kind = HIPCOMM_FAULT_ABORTED;
    if (kind == HIPCOMM_FAULT_NONE) return false;
    give_up(whole_launch, peer, kind, waited, algorithm_of(signal));
    return true;
}

/* Spin until ready() or until pointless(check, started), which is asked when spin_pause() says so, says that it is:
 * check is the number of spins in units of kSpinsPerCheck, started the time of the first one, which it notes. ready()
 * must be free of side effects that a repeat would spoil. Where one thread does all of a block's waits, those behind
 * the one that gave up do not wait at all. */
template <class Ready, class Pointless>
DEVICE void spin_until(const Launch& launch, Ready ready, Pointless pointless) {
    uint64_t started = 0;
    for (uint32_t spins = 1; !ready(); ++spins) {
        if (kOneThread && block_failed(launch)) return;
        if (!UNLIKELY(spin_pause(spins))) continue;
        if (pointless(spins / kSpinsPerCheck, started)) return;
    }
}

/* Spin until ready() or until waiting is pointless: the abort word is set, another block has failed, the
 * ranks make different calls, or the peer is later than the time-out. ready() may change who `peer` is. */
template <class Ready>
DEVICE void wait_until(const Launch& launch, const uint32_t& peer, Ready ready) {
    /* in line: what is called gets the arguments' address, and for that NVIDIA's compiler copies them to the stack */
    spin_until(launch, ready, [&](uint32_t check, uint64_t& started) IN_LINE {
        return give_up_if_pointless(launch, peer, check, started);
    });
}

/* The same for what other blocks of this rank do. They wait for peers themselves, and name them when they give up; so
 * this gives up behind them only, or long after they should have. */
template <class Ready>
DEVICE void wait_for_own_blocks(const Launch& launch, Ready ready) {
    spin_until(launch, ready, [&](uint32_t, uint64_t& started) IN_LINE {
        const uint64_t now = clock_ticks(), waited = ticks_waited(started, now);
        const bool called_off = is_called_off(launch, now);
        const Launch phase = new_phase(launch);
        if (!called_off && waited / 2 <= phase.args.timeout_ticks) return false;
        give_up(launch, phase.args.rank, called_off ? HIPCOMM_FAULT_ABORTED : HIPCOMM_FAULT_TIMEOUT, waited, 0);
        return true;
    });
}
