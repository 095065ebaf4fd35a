/* Direct kernels: the ranks work on each other's buffers in place, between two barriers.
 *
 * A rank knows only where its own buffers are. It publishes them with its entry signal as places, region
 * and offset, and every other rank turns these into addresses with its own table of the regions'
 * mappings: nothing rests on all ranks passing the same offset.
 */
#pragma once

#include "../data/pack.h"
#include "../launch/signal.h"

/* Phases of a direct kernel. */
enum Phase : uint32_t { kEntered, kLeaving };

/* Addresses of every rank's buffers in this call as mapped here; 0 where they are not registered memory. */
struct RankBuffers {
    uint64_t send_address[HIPCOMM_MAX_RANKS];
    uint64_t recv_address[HIPCOMM_MAX_RANKS];

    DEVICE_MEMBER char* send(uint32_t rank) const { return global_pointer(send_address[rank]); }
    DEVICE_MEMBER char* recv(uint32_t rank) const { return global_pointer(recv_address[rank]); }
};

DEVICE RankBuffers* rank_buffers(const Launch& launch) {
    return reinterpret_cast<RankBuffers*>(launch.geometry.shared + kTileOffset);
}

DEVICE uint64_t address_of_place(const Launch& launch, uint32_t rank, uint64_t place) {
    if (place == HIPCOMM_NO_PLACE) return 0;
    const uint64_t region = place >> HIPCOMM_PLACE_OFFSET_BITS;
    const auto* table = reinterpret_cast<const uint64_t*>(launch.args.own_control + HIPCOMM_REGIONS_OFFSET);
    const uint64_t base = load_relaxed(table + region * HIPCOMM_MAX_RANKS + rank);
    return base + (place & ((1ull << HIPCOMM_PLACE_OFFSET_BITS) - 1));
}

/* All threads: entry barrier. Afterwards all ranks' buffers may be read and written, and rank_buffers()
 * says where they are; false in all threads if the block has failed. Where each peer has its own place
 * in a rank's result, recv_offset(peer) is its distance from the beginning. */
template <class RecvOffset>
DEVICE bool enter_direct(const Launch& launch, RecvOffset recv_offset) {
    if (is_behind_failure(launch)) return false;
    const hipcommKernelArgs& args = launch.args;
    const Geometry& g = launch.geometry;
    for (uint32_t peer = g.thread; peer < args.world; peer += g.threads) {
        if (peer == args.rank) continue;
        uint64_t* slot = signal_slot(launch, peer, kEntered, args.rank);
        store_relaxed(slot + 1, args.send_place);
        store_relaxed(slot + 2, args.recv_place == HIPCOMM_NO_PLACE ? HIPCOMM_NO_PLACE
                                                                    : args.recv_place + recv_offset(peer));
        store_release(slot, make_signal(launch, 1));
    }
    RankBuffers* const buffers = rank_buffers(launch);
    for (uint32_t peer = g.thread; peer < args.world; peer += g.threads) {
        if (peer == args.rank) {
            buffers->send_address[peer] = reinterpret_cast<uint64_t>(args.send);
            buffers->recv_address[peer] = reinterpret_cast<uint64_t>(args.recv);
            continue;
        }
        wait_for_signal(launch, peer, kEntered, 1);
        const uint64_t* slot = signal_slot(launch, args.rank, kEntered, peer);
        buffers->send_address[peer] = address_of_place(launch, peer, load_relaxed(slot + 1));
        buffers->recv_address[peer] = address_of_place(launch, peer, load_relaxed(slot + 2));
    }
    block_barrier();
    return !block_failed(launch);
}

DEVICE bool enter_direct(const Launch& launch) {
    return enter_direct(launch, [](uint32_t) -> uint64_t { return 0; });
}

/* All threads: exit barrier. Nobody reads this rank's input or writes its result any more. */
DEVICE void leave_direct(const Launch& launch) {
    signal_peers(launch, kLeaving, 1);
    if (wait_for_peers(launch, kLeaving, 1)) return;
    /* A peer that was held up so long may still be reading this rank's input, which may change as soon as this launch
     * is over: it must not find a signal that says all is well. */
    signal_peers(launch, kLeaving, 0);
}
