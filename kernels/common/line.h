/* Flag-in-data lines: a pack of 16 bytes travels as four 64-bit words, each with 4 bytes of data and
 * the epoch. Whoever sees the epoch has the data: no fence, no barrier, any bit pattern allowed. */
#pragma once

#include "wait.h"

/* Line `index` of `rank`'s line area. */
DEVICE uint64_t* line_at(const Launch& launch, uint32_t rank, uint32_t parity, uint64_t index) {
    return reinterpret_cast<uint64_t*>(launch.args.control[rank] + HIPCOMM_LINES_OFFSET +
                                       (parity * launch.args.line_capacity + index) * HIPCOMM_LINE_BYTES);
}

DEVICE void send_line(const Launch& launch, uint32_t peer, uint64_t index, Pack pack) {
    store_line(line_at(launch, peer, launch.parity(), index), pack, launch.epoch);
}

/* The pack that `peer` sends to line `index` of this rank; anything if the wait failed. */
DEVICE Pack receive_line(const Launch& launch, uint32_t peer, uint64_t index) {
    const uint64_t* line = line_at(launch, launch.args.rank, launch.parity(), index);
    Pack pack{};
    wait_until(launch, peer, [&] { return load_line(line, pack, launch.epoch); });
    return pack;
}
