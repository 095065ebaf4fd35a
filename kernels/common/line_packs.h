/* The packs of a message, kPacks to a line; the last line may have fewer. */
#pragma once

#include "line.h"
#include "pack.h"

template <uint32_t kPacks>
DEVICE uint32_t lines_of(uint32_t packs) {
    return (packs + kPacks - 1) / kPacks;
}

/* Line `index` of packs 0 .. packs - 1, each from load(pack); what is past their end is zero. */
template <uint32_t kPacks, class Load>
DEVICE Line<kPacks> load_packs(uint32_t packs, uint32_t index, Load load) {
    Line<kPacks> line{};
    UNROLL(4)
    for (uint32_t k = 0; k < kPacks; ++k) {
        const uint32_t pack = index * kPacks + k;
        if (k == 0 || pack < packs) line.pack[k] = load(pack);
    }
    return line;
}

/* The other way round: store(pack, contents) for each. */
template <uint32_t kPacks, class Store>
DEVICE void store_packs(uint32_t packs, uint32_t index, const Line<kPacks>& line, Store store) {
    UNROLL(4)
    for (uint32_t k = 0; k < kPacks; ++k) {
        const uint32_t pack = index * kPacks + k;
        if (k == 0 || pack < packs) store(pack, line.pack[k]);
    }
}

/* Line `index` of the packs in a block's scratch. */
template <uint32_t kPacks>
DEVICE Line<kPacks> load_scratch_line(const Pack* scratch, uint32_t index) {
    Line<kPacks> line;
    UNROLL(4)
    for (uint32_t k = 0; k < kPacks; ++k) line.pack[k] = scratch[index * kPacks + k];
    return line;
}
template <uint32_t kPacks>
DEVICE void store_scratch_line(Pack* scratch, uint32_t index, const Line<kPacks>& line) {
    UNROLL(4)
    for (uint32_t k = 0; k < kPacks; ++k) scratch[index * kPacks + k] = line.pack[k];
}
