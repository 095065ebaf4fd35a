/* Rows on their way to their owners, through the staging slab: contributions [row][sender]. Block b takes every blocks-th
 * row of each owner, alone with block b of the other ranks. */
#pragma once

#include "owners.h"
#include "sources.h"

/* Row `row` of an owner, counted within this launch: what `sender` has sent of it. */
template <class T>
DEVICE char* contribution(const Launch& launch, const hipcommNormArgs& args, uint32_t owner, uint64_t row,
                          uint32_t sender) {
    return staged_row<T>(launch, args, owner, row * args.common.world + sender);
}
template <class T>
DEVICE void push_rows(const Launch& launch, const hipcommNormArgs& args) {
    for_each_row(args, launch.geometry, args.common.rank, [&](uint32_t owner, uint64_t row, uint64_t token) IN_LINE {
        if (owner == args.common.rank) return;
        stage_row(launch, contribution<T>(launch, args, owner, row, args.common.rank),
                  row_of<T>(args.common.send, args.x_stride, token, args.hidden));
    });
}
