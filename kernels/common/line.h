/* Flag-in-data lines: a pack of 16 bytes travels as four 64-bit words, each with 4 bytes of data and
 * the epoch. Whoever sees the epoch has the data: no fence, no barrier, any bit pattern allowed.
 *
 * Neighbouring threads move neighbouring lines, kPartWords words (a part) per access. So lines lie in
 * groups of kLineGroup, part by part: first part 0 of all lines of the group, then part 1, ... One access
 * of a warp is then one contiguous piece of memory, and goes over a link in few full packets.
 */
#pragma once

#include "wait.h"

constexpr uint32_t kLineWords = HIPCOMM_LINE_BYTES / sizeof(uint64_t);

/* Distance, in words, between two parts of one line. */
constexpr uint32_t kPartStride = kLineGroup * kPartWords;

/* The first part of line `index` of the lines that begin at `area`. */
DEVICE uint64_t* line_of(char* area, uint64_t index) {
    return reinterpret_cast<uint64_t*>(area) + index / kLineGroup * (kLineGroup * kLineWords) +
           index % kLineGroup * kPartWords;
}

/* The first part of line `index` in `rank`'s line area. */
DEVICE uint64_t* line_at(const Launch& launch, uint32_t rank, uint32_t parity, uint64_t index) {
    return line_of(launch.args.control[rank] + HIPCOMM_LINES_OFFSET +
                       parity * launch.args.line_capacity * HIPCOMM_LINE_BYTES,
                   index);
}

DEVICE void store_line(uint64_t* line, Pack pack, uint32_t epoch) {
    UNROLL(4)
    for (uint32_t word = 0; word < kLineWords; word += kPartWords)
        store_part(line + word / kPartWords * kPartStride, pack, word, epoch);
}

DEVICE void send_line(const Launch& launch, uint32_t peer, uint64_t index, Pack pack) {
    store_line(line_at(launch, peer, launch.parity(), index), pack, launch.epoch);
}

DEVICE bool load_line(const uint64_t* line, Pack& pack, uint32_t epoch) {
    bool fresh = true;
    UNROLL(4)
    for (uint32_t word = 0; word < kLineWords; word += kPartWords)
        fresh &= load_part(line + word / kPartWords * kPartStride, pack, word, epoch);
    return fresh;
}

/* The pack that `peer` sends to line `index` of this rank; anything if the wait failed. */
DEVICE Pack receive_line(const Launch& launch, uint32_t peer, uint64_t index) {
    const uint64_t* line = line_at(launch, launch.args.rank, launch.parity(), index);
    Pack pack{};
    wait_until(launch, peer, [&] { return load_line(line, pack, launch.epoch); });
    return pack;
}
