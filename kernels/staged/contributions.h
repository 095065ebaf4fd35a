/* What each rank of a reduction in segments sends into the staging memory of the segment's owner. */
#pragma once

#include "../data/segments.h"
#include "turns.h"

/* My chunk of every other owner's segment, into its staging memory. cells_of(launch): the cells of a slot, of which
 * those of the contributions are 0 .. world - 1. */
template <class CellsOf>
DEVICE void push_contributions(const Launch& launch, uint32_t step, CellsOf cells_of) {
    const uint32_t rank = launch.args.rank, world = launch.args.world;
    /* every rank, and every block, begins with another peer, so that all links are busy */
    NO_UNROLL
    for (uint32_t i = 0; i < world - 1; ++i) {
        const uint32_t owner = (rank + 1 + (i + launch.geometry.block) % (world - 1)) % world;
        const Launch again{reload_args(launch.args), launch.geometry, launch.epoch}; /* fewer registers */
        const Message send = send_segment(again, owner);
        stage_rows(again, cells_of(again).cell(owner, step, rank), in_rows(again, send),
                   chunk_of_segment(again, packs_of(send.bytes), step));
    }
}
