/* Turns: how the pipelined kernels march in step.
 *
 * A block does its work in turns, together with the same block of all other ranks. A turn works on several
 * steps of the pipeline at once: stage s (push, reduce, collect) on step t - s kDelay, each stage by threads of
 * its own; those of a stage that has no step help the others. Meanwhile the control threads do what takes long: they release and signal
 * what the turn before has written, and wait for what the next turn will read.
 *
 * So what is written in turn t is signalled during turn t + 1 and read in turn t + 2: kDelay. A ring of
 * 2 kDelay slots (staging.h) is enough: everybody has read it before anybody begins turn t + 2 kDelay. (Except
 * in all_reduce on the CPU, where a result lies in the cell of the contribution: the rank that writes there in
 * turn t + 2 kDelay has read it in that turn.)
 *
 * Why all this: with stages one after the other, and release, signal and wait between turns, a turn cost
 * 2.6 us on top of what its bytes take over the links (docs/journal.md).
 */
#pragma once

#include "../launch/signal.h"
#include "stagger.h"
#include "../data/staging.h"

constexpr uint32_t kTurnsSignal = 0; /* the signal phase */

/* Of the threads of a block, these signal and wait; the others work. */
constexpr Part kControl{0, 1};
constexpr uint32_t kWorkerEighths = 8 - kControl.eighths; /* of the block, after those */

/* How a kernel's workers are shared out over its stages, when all of them have a step. */
template <uint32_t kStages>
struct Weights {
    uint32_t of[kStages];
};

/* Whether a stage that lags `lag` turns has a step in this turn. */
DEVICE bool has_step(uint32_t turn, uint32_t lag, uint32_t steps) { return turn >= lag && turn - lag < steps; }

/* Stage `stage` of this turn, if it has a step: work(launch, step), in its share of the workers. Stages that have
 * none leave theirs to the others. */
template <uint32_t kStages, class Work>
DEVICE void in_stage(const Launch& launch, const Weights<kStages>& weights, uint32_t stage, uint32_t turn,
                     uint32_t steps, Work work) {
    if (!has_step(turn, stage * kDelay, steps)) return;
    uint32_t before = 0, all = 0;
    UNROLL(4)
    for (uint32_t other = 0; other < kStages; ++other) {
        const uint32_t weight = has_step(turn, other * kDelay, steps) ? weights.of[other] : 0;
        if (other < stage) before += weight;
        all += weight;
    }
    const uint32_t first = kWorkerEighths * before / all;
    const Part part{kControl.eighths + first, kWorkerEighths * (before + weights.of[stage]) / all - first};
    if (is_in(launch, part)) work(new_phase_of(launch, part), turn - stage * kDelay);
}

/* Some threads: tell every peer that this block has done `turns` turns. */
DEVICE void signal_turns(const Launch& launch, uint32_t turns) {
    const Geometry& g = launch.geometry;
    for (uint32_t peer = g.thread; peer < launch.args.world; peer += g.threads)
        if (peer != launch.args.rank) signal_one(launch, peer, kTurnsSignal, turns);
}

/* Some threads: wait until every peer has done `turns` turns. */
DEVICE void wait_for_turns(const Launch& launch, uint32_t turns) {
    const Geometry& g = launch.geometry;
    for (uint32_t peer = g.thread; peer < launch.args.world; peer += g.threads)
        if (peer != launch.args.rank) wait_for_signal(launch, peer, kTurnsSignal, turns);
}

/* All threads: a pipeline of `stages` stages over `steps` steps. work(turn) is called for every turn, with
 * everybody's turns up to turn - kDelay done and visible. Leaves early, in all threads alike, if the block has
 * failed. At least two stages: a block that leaves has then heard from everybody (hipcomm/abi/slabs.h). Blocks begin
 * in `groups` groups (stagger.h). */
template <class Work>
DEVICE void in_turns(const Launch& launch, uint32_t steps, uint32_t stages, uint32_t groups, Work work) {
    const uint32_t most = steps ? steps : 1; /* a block with nothing to do says so */
    const uint32_t turns = most + (stages - 1) * kDelay;
    /* in the turns between, no stage has a step: fewer steps than the delay */
    const auto is_idle = [=](uint32_t turn) { return turn % kDelay >= most; };
    static_assert(kDelay >= 2, "turn 0 waits for nobody, so a group always begins, and wait_for_group_before() may "
                               "look at block_failed()");
    if (!wait_for_group_before(launch, groups)) return;
    NO_UNROLL
    for (uint32_t turn = 0; turn < turns; ++turn) {
        if (turn == 1) let_group_behind_begin(launch, groups);
        if (is_in(launch, kControl) && turn >= 1 && turn - 1 + kDelay < turns && !is_idle(turn - 1))
            signal_turns(new_phase_of(launch, kControl), turn);
        work(turn);
        /* Not block_failed(): while slow threads still look at it, the next turn's wait may set it. */
        uint32_t* const leave = &block_state(launch)->leave[turn % 2];
        if (is_in(launch, kControl) && turn + 1 >= kDelay && turn + 1 < turns && !is_idle(turn + 1)) {
            wait_for_turns(new_phase_of(launch, kControl), turn + 2 - kDelay);
            if (block_failed(launch)) store_scratch(leave, 1);
        }
        block_barrier(); /* stores of this turn come before its signal; loads of the next after the wait */
        if (load_scratch(leave)) return;
    }
}
