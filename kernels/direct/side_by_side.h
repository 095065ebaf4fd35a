/* Direct kernels that reduce: packs are read from all ranks' inputs, and the result goes to some ranks. */
#pragma once

#include "rank_buffers.h"
#include "../numbers/reduce_packs.h"

/* All threads: reduce packs begin .. end - 1; the blocks side by side. */
template <class T, class Op, uint32_t kRanks, class Load, class Store>
DEVICE void reduce_side_by_side(const Launch& whole_launch, uint64_t begin, uint64_t end, const Receivers& receivers,
                                Load load, Store store) {
    const Launch launch = new_phase(whole_launch);
    const Geometry& g = launch.geometry;
    reduce_packs<T, Op, kRanks, uint64_t>(
        launch.args, {begin + uint64_t(g.block) * g.threads + g.thread, end, uint64_t(g.blocks) * g.threads},
        receivers, load, store);
}
