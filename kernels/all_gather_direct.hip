/* All-gather, direct: every rank writes its message into all ranks' results, between two barriers. The
 * results are registered memory; nothing is copied out. Writing over the links is faster than reading. */
#include "common/direct.h"
#include "common/epoch.h"

/* All threads: copy this block's share of the message to `to`. */
DEVICE void put_share(const Launch& launch, const Message& to, const Message& from) {
    const Geometry& g = launch.geometry;
    const uint64_t packs = packs_of(from.bytes);
    const uint64_t share = (packs + g.blocks - 1) / g.blocks;
    /* in pieces, whose number of packs fits 32 bits */
    constexpr uint64_t kPiece = 1u << 30;
    const uint64_t begin = g.block * share < packs ? g.block * share : packs;
    const uint64_t end = packs - begin < share ? packs : begin + share;
    for (uint64_t first = begin; first < end; first += kPiece) {
        const uint32_t piece = uint32_t(end - first < kPiece ? end - first : kPiece);
        const uint32_t whole = whole_packs(to, first, whole_packs(from, first, piece));
        copy_to_staging(to.base + first * HIPCOMM_PACK_BYTES, from.base + first * HIPCOMM_PACK_BYTES, whole, g);
        copy_message(g, to, from, first + whole, piece - whole);
    }
}

DEVICE void all_gather_direct(const hipcommKernelArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args, g);
    if (!enter_direct(launch)) return end_launch(launch);
    const Message send = message(args.send, args.bytes);
    /* every rank begins with another peer, so that all links are busy */
    NO_UNROLL
    for (uint32_t i = 1; i <= args.world; ++i) {
        const uint32_t peer = (args.rank + i) % args.world;
        char* const to = rank_buffers(launch)->recv(peer) + args.rank * args.recv_stride;
        if (to != args.send) put_share(launch, message(to, args.bytes), send);
    }
    leave_direct(launch);
    end_launch(launch);
}

KERNEL(hipcomm_all_gather_direct, all_gather_direct)
