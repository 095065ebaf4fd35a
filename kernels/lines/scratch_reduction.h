/* Reducing what all ranks' lines have brought into a block's scratch. */
#pragma once

#include "../launch/launch.h"
#include "../numbers/reduce.h"

/* Pack `index` of a tile, reduced over the ranks: arrived[rank][pack of the tile]. */
template <class T, class Op>
DEVICE Pack reduce_scratch(const hipcommKernelArgs& args, const Pack* arrived, uint32_t tile_packs, uint32_t index) {
    Reduction<T, Op> reduction;
    reduction.start(arrived[index], args);
    NO_UNROLL
    for (uint32_t rank = 1; rank < args.world; ++rank) reduction.add(arrived[rank * tile_packs + index], args);
    return reduction.finish(args);
}
