/* The epoch: one number per launch, the same on all ranks, kept in device memory so that a captured
 * launch finds the next one at every replay.
 *
 * Each block has its own epoch word, and reads no other. A launch of `blocks` blocks advances
 * all words: block b those of b, b + blocks, b + 2 * blocks, ... Nobody else reads these during the
 * launch, and the next launch on the stream sees them all, whatever its number of blocks: no counter
 * that blocks contend for, no last block.
 */
#pragma once

#include "launch.h"
#include "line.h"
#include "signal.h"

DEVICE uint32_t next_epoch(uint32_t epoch) {
    return epoch == 0xffffffffu ? HIPCOMM_FIRST_EPOCH : epoch + 1;
}

DEVICE uint32_t* epoch_words(const hipcommKernelArgs& args) {
    return reinterpret_cast<uint32_t*>(args.own_control);
}

/* Flags are compared for equality. One that nobody has overwritten for a whole turn of the epoch's bits
 * in it would be taken for fresh; so twice in every 2^22 launches, once for each parity, the
 * launch wipes the flags of the *other* parity. Nobody reads those now: this rank's kernels of that parity
 * are over. */
DEVICE bool is_time_to_scrub(const Launch& launch) {
    return launch.epoch % HIPCOMM_SCRUB_PERIOD - HIPCOMM_FIRST_EPOCH <= 1;
}

DEVICE void wipe_old_flags(const Launch& launch) {
    const uint32_t parity = launch.parity() ^ 1;
    const Geometry& g = launch.geometry;
    const uint64_t first = uint64_t(g.block) * g.threads + g.thread;
    const uint64_t stride = uint64_t(g.blocks) * g.threads;
    auto* lines = reinterpret_cast<uint64_t*>(line_area(launch, launch.args.rank, parity));
    for (uint64_t i = first; i < launch.args.line_capacity * 4; i += stride) store_relaxed(lines + i, 0);
    for (uint64_t i = first; i < uint64_t(launch.args.epoch_slots) * HIPCOMM_SIGNAL_PHASES * HIPCOMM_MAX_RANKS;
         i += stride)
        store_relaxed(signal_slot_by_index(launch, launch.args.rank, parity, i), 0);
    for (uint64_t i = first; i < HIPCOMM_MAX_RANKS; i += stride)
        store_relaxed(told_slot(launch, launch.args.rank, parity, uint32_t(i)), 0);
}

/* All threads. Peers write flags of the other parity in the next epoch, and must not enter it while a block here is
 * still wiping; but a kernel's own waits need not make every block wait for its like (an exchange has blocks that
 * only copy). So all blocks meet: a signal of no steps, from which each kernel's own signals go on. */
DEVICE void scrub_old_flags(const Launch& launch) {
    wipe_old_flags(launch);
    block_barrier();
    fence_system(); /* before the signal, and anything else that this block sends */
    signal_peers(launch, 0, 0);
    if (wait_for_peers(launch, 0, 0)) return;
    if (launch.geometry.thread == 0) store_scratch(&block_state(launch)->behind_failure, 1);
    block_barrier();
}

DEVICE Launch begin_launch(const hipcommKernelArgs& args, const Geometry& geometry) {
    const Launch launch{args, geometry, load_relaxed(epoch_words(args) + geometry.block)};
    clear_block_state(launch);
    block_barrier();
    if (UNLIKELY(is_time_to_scrub(launch)) && !is_behind_failure(launch)) scrub_old_flags(launch);
    return launch;
}

/* To be called by all threads, also after a failure: the epoch moves on in any case. */
DEVICE void end_launch(const Launch& whole_launch) {
    const Launch launch = new_phase(whole_launch);
    const Geometry& g = launch.geometry;
    block_barrier(); /* thread 0 of a fast warp must not advance the word before a slow warp reads it */
    tell_of_mismatch(launch);
    for (uint32_t slot = g.block + g.blocks * g.thread; slot < launch.args.epoch_slots;
         slot += g.blocks * g.threads)
        store_relaxed(epoch_words(launch.args) + slot, next_epoch(launch.epoch));
}
