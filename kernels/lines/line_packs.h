/* The packs of a message, kPacks to a line; the last line may have fewer. Lines of several packs, wide lines, are for
 * the larger messages, which have kernels of their own: code for both in one kernel cost small messages 0.1 us in
 * instruction fetches (docs/journal.md). */
#pragma once

#include "../launch/line.h"
#include "../data/pack.h"

/* What a line carries. */
template <uint32_t kPacks>
struct Line {
    Pack pack[kPacks];
};
template <uint32_t kPacks>
constexpr uint32_t kLineWords = kPacks * kPackWords;

#ifdef HAS_WIDE_LINES
static_assert(kLineBytesOf<kLineWords<HIPCOMM_WIDE_LINE_PACKS>> == HIPCOMM_WIDE_LINE_BYTES);
#endif

template <uint32_t kPacks>
DEVICE void send_line(const Launch& launch, uint32_t peer, uint64_t index, const Line<kPacks>& line) {
    send_words(launch, peer, index, __builtin_bit_cast(Words<kLineWords<kPacks>>, line));
}

/* What `peer` sends to line `index` of this rank; anything if the wait failed. */
template <uint32_t kPacks>
DEVICE Line<kPacks> receive_packs(const Launch& launch, uint32_t peer, uint64_t index) {
    return __builtin_bit_cast(Line<kPacks>, receive_words<kLineWords<kPacks>>(launch, peer, index));
}

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
