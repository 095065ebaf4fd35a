/* What a rank sends to itself in an exchange. */
#pragma once

#include "segments.h"

/* All threads: copy a chunk of this rank's segment for itself to its place in the result. */
DEVICE void copy_own_segment(const Launch& launch, const Chunk& chunk) {
    const Message send = send_segment(launch, launch.args.rank);
    const Rows recv = in_rows(launch, recv_segment(launch, launch.args.rank));
    if (recv.one_row && recv.all.base == send.base) return; /* in place */
    for (uint32_t i = launch.geometry.thread; i < chunk.packs; i += launch.geometry.threads)
        store_rows(recv, chunk.first + i, load_message(send, chunk.first + i));
}
