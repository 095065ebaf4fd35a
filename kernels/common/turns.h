/* Turns: how the pipelined kernels march in step.
 *
 * A block does its work in turns, together with the same block of all other ranks: nobody begins turn
 * t + 1 before everybody has finished turn t. A turn works on several steps of the pipeline at once (push
 * step t, reduce step t - 1, ...), and costs one release, one signal and one wait for all of them.
 *
 * What a turn writes into staging memory, peers read in the next turn; so a ring of two slots is enough:
 * while anybody is in turn t, slot t % 2 is written and slot (t - 1) % 2 is read.
 */
#pragma once

#include "signal.h"

constexpr uint32_t kTurnsSignal = 0; /* the signal phase */

/* All threads: work(turn) for every turn, with everybody's earlier turns done and visible. Leaves early,
 * in all threads alike, if the block has failed. At least two turns: whoever leaves has then heard from
 * everybody (kernels/abi.h). */
template <class Work>
DEVICE void in_turns(const Launch& launch, uint32_t turns, Work work) {
    NO_UNROLL
    for (uint32_t turn = 0; turn < turns; ++turn) {
        if (turn > 0 && !wait_for_peers(launch, kTurnsSignal, turn)) return;
        work(turn);
        if (turn + 1 < turns) signal_peers(launch, kTurnsSignal, turn + 1);
    }
}
