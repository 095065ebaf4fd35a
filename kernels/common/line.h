/* Flag-in-data lines: packs travel in parts, each with a few words of data and the epoch, each stored and
 * loaded as one relaxed atomic. Whoever sees the epoch has the data: no fence, no barrier, any bit pattern
 * allowed. How much a part holds is the target's (kernels/arch/): 4 bytes in 8, or 12 in 16.
 *
 * A line carries one pack, or, as a wide line, as many as fill its parts: fewer bytes over the links, but more
 * for each thread to do, so it is for the larger messages, which have kernels of their own: code for both in
 * one kernel cost small messages 0.1 us in instruction fetches (docs/performance.md).
 *
 * Neighbouring threads move neighbouring lines, a part per access. So lines lie in groups of kLineGroup, part
 * by part: first part 0 of all lines of the group, then part 1, ... One access of a warp is then one
 * contiguous piece of memory, and goes over a link in few full packets. All parts are of one
 * size and aligned to it: where one kind of line has an epoch the other has an epoch too, and never data.
 */
#pragma once

#include "wait.h"

constexpr uint32_t kPackWords = HIPCOMM_PACK_BYTES / sizeof(uint32_t);

/* What a line carries. */
template <uint32_t kPacks>
struct Line {
    Pack pack[kPacks];
};

template <uint32_t kPacks>
constexpr uint32_t kPartsOf = (kPacks * kPackWords + kPartData - 1) / kPartData;

template <uint32_t kPacks>
constexpr uint32_t kLineBytesOf = kPartsOf<kPacks> * kPartBytes;

static_assert(kLineBytesOf<1> == HIPCOMM_LINE_BYTES);
#ifdef HAS_WIDE_LINES
static_assert(kLineBytesOf<HIPCOMM_WIDE_LINE_PACKS> == HIPCOMM_WIDE_LINE_BYTES);
#endif

/* Distance between two parts of one line. */
constexpr uint32_t kPartStride = kLineGroup * kPartBytes;

/* The first part of line `index` of the lines that begin at `area`, all of one kind. */
template <uint32_t kPacks>
DEVICE char* line_of(char* area, uint64_t index) {
    return area + index / kLineGroup * (kLineGroup * kLineBytesOf<kPacks>) + index % kLineGroup * kPartBytes;
}

/* The lines that arrive at `rank`. */
DEVICE char* line_area(const Launch& launch, uint32_t rank, uint32_t parity) {
    return launch.args.control[rank] + HIPCOMM_LINES_OFFSET +
           parity * launch.args.line_capacity * HIPCOMM_LINE_BYTES;
}

template <uint32_t kPacks>
DEVICE void store_line(char* line, const Line<kPacks>& packs, uint32_t epoch) {
    UNROLL(4)
    for (uint32_t part = 0; part < kPartsOf<kPacks>; ++part) {
        uint32_t data[kPartData] = {};
        UNROLL(4)
        for (uint32_t i = 0; i < kPartData; ++i) {
            const uint32_t word = part * kPartData + i;
            if (word < kPacks * kPackWords) data[i] = packs.pack[word / kPackWords][word % kPackWords];
        }
        store_part(line + part * kPartStride, data, epoch);
    }
}

DEVICE void store_line(char* line, Pack pack, uint32_t epoch) { store_line(line, Line<1>{{pack}}, epoch); }

template <uint32_t kPacks>
DEVICE bool load_line(const char* line, Line<kPacks>& packs, uint32_t epoch) {
    bool fresh = true;
    UNROLL(4)
    for (uint32_t part = 0; part < kPartsOf<kPacks>; ++part) {
        uint32_t data[kPartData];
        fresh &= load_part(line + part * kPartStride, data, epoch);
        UNROLL(4)
        for (uint32_t i = 0; i < kPartData; ++i) {
            const uint32_t word = part * kPartData + i;
            if (word < kPacks * kPackWords) packs.pack[word / kPackWords][word % kPackWords] = data[i];
        }
    }
    return fresh;
}

template <uint32_t kPacks>
DEVICE void send_line(const Launch& launch, uint32_t peer, uint64_t index, const Line<kPacks>& packs) {
    store_line(line_of<kPacks>(line_area(launch, peer, launch.parity()), index), packs, launch.epoch);
}
DEVICE void send_line(const Launch& launch, uint32_t peer, uint64_t index, Pack pack) {
    send_line(launch, peer, index, Line<1>{{pack}});
}

/* What `peer` sends to line `index` of this rank; anything if the wait failed. */
template <uint32_t kPacks>
DEVICE Line<kPacks> receive_packs(const Launch& launch, uint32_t peer, uint64_t index) {
    const char* line = line_of<kPacks>(line_area(launch, launch.args.rank, launch.parity()), index);
    Line<kPacks> packs{};
    wait_until(launch, peer, [&] { return load_line(line, packs, launch.epoch); });
    return packs;
}
DEVICE Pack receive_line(const Launch& launch, uint32_t peer, uint64_t index) {
    return receive_packs<1>(launch, peer, index).pack[0];
}
