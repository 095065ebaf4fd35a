/* Who owns which rows: contiguous parts, the first `tokens mod world` ranks one row more. A launch takes the same rows of
 * every owner, counted from its first. */
#pragma once

#include "../arch/arch.h"
#include "../../hipcomm/abi/norm_args.h"

struct Owners {
    uint64_t least, longer; /* rows of an owner, and how many have one more */

    DEVICE_MEMBER uint64_t rows(uint32_t rank) const { return least + (rank < longer); }
    DEVICE_MEMBER uint64_t first(uint32_t rank) const { return rank * least + (rank < longer ? rank : longer); }
};

/* The k-th rank after `rank`, round the world; k <= world. */
DEVICE uint32_t rank_after(uint32_t rank, uint32_t k, uint32_t world) {
    return rank + k < world ? rank + k : rank + k - world;
}

template <class Args>
DEVICE Owners owners_of(const Args& args) {
    return {args.tokens / args.common.world, args.tokens % args.common.world};
}

/* Visit(owner, row of the owner in this launch, row of the call) for this block's rows; owners from `first` on. */
template <class Args, class Visit>
DEVICE void for_each_row(const Args& args, const Geometry& g, uint32_t first, Visit visit) {
    const Owners owners = owners_of(args);
    const uint32_t world = args.common.world;
    NO_UNROLL
    for (uint64_t row = g.block; row < args.count; row += g.blocks) {
        NO_UNROLL
        for (uint32_t k = 0; k < world; ++k) {
            const uint32_t owner = rank_after(first, k, world);
            if (args.first + row < owners.rows(owner)) visit(owner, row, owners.first(owner) + args.first + row);
        }
    }
}
