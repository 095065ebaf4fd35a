/* Broadcast, direct: every rank reads its share of the message from the root and writes it to all others,
 * between two barriers. The buffers are registered memory; nothing is copied in or out, and no rank's links
 * carry more than 2 (n - 1)/n per byte of the message, where the root's would carry n - 1 if it sent to all.
 */
#include "../launch/epoch.h"
#include "put.h"

/* Packs of a range that may be moved whole on all ranks, from its first on. */
DEVICE uint32_t whole_everywhere(const Launch& launch, const PackRange& range) {
    constexpr uint64_t kMost = 1u << 30; /* so that 32-bit indices do not wrap; the rest goes pack by pack */
    const uint64_t packs = range.end - range.begin;
    uint32_t whole = uint32_t(packs < kMost ? packs : kMost);
    NO_UNROLL
    for (uint32_t rank = 0; rank < launch.args.world; ++rank)
        whole = whole_packs(message(rank_buffers(launch)->recv(rank), launch.args.bytes), range.begin, whole);
    return whole;
}

/* Call visit(rank) for everybody but the root, this rank's neighbour first, so that all links are busy. */
template <class Visit>
DEVICE void for_each_receiver(const Launch& launch, Visit visit) {
    NO_UNROLL
    for (uint32_t i = 1; i <= launch.args.world; ++i) {
        const uint32_t rank = (launch.args.rank + i) % launch.args.world;
        if (rank != launch.args.root) visit(rank);
    }
}

DEVICE void spread_whole_packs(const Launch& whole_launch, const PackRange& range, uint32_t whole) {
    const Launch launch = new_phase(whole_launch);
    const Geometry& g = launch.geometry;
    const auto address = [&](uint32_t rank, uint64_t pack) {
        return rank_buffers(launch)->recv(rank) + (range.begin + pack) * HIPCOMM_PACK_BYTES;
    };
    if constexpr (kOneThread) { /* a tile at a time, which stays in the cache until everybody has it */
        constexpr uint32_t kTile = 1024;
        for (uint32_t first = 0; first < whole; first += kTile) {
            const uint64_t packs = whole - first < kTile ? whole - first : kTile;
            for_each_receiver(launch, [&](uint32_t rank) {
                __builtin_memcpy(address(rank, first), address(launch.args.root, first), packs * HIPCOMM_PACK_BYTES);
            });
        }
    } else {
        NO_UNROLL
        for (uint32_t base = g.thread; base < whole; base += g.threads * kPacksInFlight) {
            Pack packs[kPacksInFlight]{};
            UNROLL(8)
            for (uint32_t k = 0; k < kPacksInFlight; ++k)
                if (base + k * g.threads < whole) packs[k] = load_staged(address(launch.args.root, base + k * g.threads));
            for_each_receiver(launch, [&](uint32_t rank) {
                UNROLL(8)
                for (uint32_t k = 0; k < kPacksInFlight; ++k)
                    if (base + k * g.threads < whole) store_staged(address(rank, base + k * g.threads), packs[k]);
            });
        }
    }
}

DEVICE void spread_other_packs(const Launch& whole_launch, const PackRange& range, uint32_t whole) {
    const Launch launch = new_phase(whole_launch);
    const Geometry& g = launch.geometry;
    const auto buffer = [&](uint32_t rank) {
        return message(rank_buffers(launch)->recv(rank), launch.args.bytes);
    };
    for (uint64_t i = range.begin + whole + g.thread; i < range.end; i += g.threads) {
        const Pack pack = load_message(buffer(launch.args.root), i);
        for_each_receiver(launch, [&](uint32_t rank) { store_message(buffer(rank), i, pack); });
    }
}

DEVICE void broadcast_direct(const hipcommKernelArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args, g);
    if (!enter_direct(launch)) return end_launch(launch);
    const PackRange shard = part_of_range({0, packs_of(args.bytes)}, args.rank, args.world);
    const PackRange range = part_of_range(shard, g.block, g.blocks);
    const uint32_t whole = whole_everywhere(launch, range);
    spread_whole_packs(launch, range, whole);
    spread_other_packs(launch, range, whole);
    leave_direct(launch);
    end_launch(launch);
}

KERNEL(hipcomm_broadcast_direct, broadcast_direct, hipcommKernelArgs, HIPCOMM_MAX_THREADS)
