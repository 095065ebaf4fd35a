/* Blocks of a pipelined kernel that begin in groups, each when the group before has sent off its first step.
 *
 * Why: the hand-over from one stage to the next (release, signal, one way, wait) takes 2.6 us, to be spent on
 * sending something else. A block cannot do that by itself on a target whose release waits for all stores that
 * the multiprocessor has under way, later ones too: its signal waits until there is nothing to send. But other
 * blocks can. All-reduce of 4 MiB on 4 H200: 29.1 us without groups, 28.4 with two, 26.7 with three
 * (docs/journal.md); three groups are best if every block has one step, else two. With two stages only they
 * cost more than they gain; reduce, which has three at its root, was not measured.
 */
#pragma once

#include "../launch/wait.h"

constexpr uint32_t kStaggerSignal = 1; /* the signal phase; in the slots from this rank to itself */

DEVICE uint32_t blocks_of_group(const Launch& launch, uint32_t groups) {
    return (launch.geometry.blocks + groups - 1) / groups;
}

DEVICE uint64_t* stagger_slot(const Launch& launch, uint32_t block) {
    const Geometry& g = launch.geometry;
    const Launch of_block{launch.args, {g.thread, g.threads, block, g.blocks, g.shared}, launch.epoch};
    return signal_slot(of_block, launch.args.rank, kStaggerSignal, launch.args.rank);
}

/* All threads, before the first turn: false in all of them if the block has failed. */
DEVICE bool wait_for_group_before(const Launch& launch, uint32_t groups) {
    /* without a wait it can have failed before the launch only: nobody waits in turn 0 */
    if constexpr (!kReleaseWaitsForAll) return !block_failed(launch);
    const uint32_t block = launch.geometry.block, before = blocks_of_group(launch, groups);
    if (groups == 1 || block < before) return !block_failed(launch);
    if (launch.geometry.thread == 0) {
        const uint64_t* slot = stagger_slot(launch, block - before);
        wait_until(launch, launch.args.rank, [&] { return is_of_this_launch(launch, load_relaxed(slot)); });
    }
    block_barrier();
    return !block_failed(launch);
}

/* All threads, after the first turn. The other block reads nothing that this one has written: no release. */
DEVICE void let_group_behind_begin(const Launch& launch, uint32_t groups) {
    if constexpr (!kReleaseWaitsForAll) return;
    if (groups > 1 && launch.geometry.thread == 0)
        store_relaxed(stagger_slot(launch, launch.geometry.block), make_signal(launch, 1));
}
