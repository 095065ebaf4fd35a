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

DEVICE Owners owners_of(const hipcommNormArgs& args) {
    return {args.tokens / args.common.world, args.tokens % args.common.world};
}
