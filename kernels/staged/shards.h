/* Moving all shards of a chunk at once, between the caller's message and staging cells.
 *
 * On GPUs the threads walk over the whole chunk and each pack finds its shard: shards are short, and one
 * after the other they would cost a memory latency each. On the CPU a shard is one memcpy.
 */
#pragma once

#include "../data/staging.h"

/* All threads: shard `owner` of the chunk goes to cell_of(owner), for every owner but `own`. */
template <class CellOf>
DEVICE void stage_shards(const Launch& launch, const Message& from, const Chunk& chunk, uint32_t own, CellOf cell_of) {
    const uint32_t world = launch.args.world;
    if constexpr (kOneThread) {
        for (uint32_t i = 1; i < world; ++i) {
            const uint32_t owner = (own + i) % world;
            stage(launch, cell_of(owner), from, shard_of(chunk, owner, world));
        }
    } else {
        const Geometry& g = launch.geometry;
        const uint32_t share = share_of(chunk, world);
        /* every rank begins with another shard, so that all links are busy */
        const uint32_t turned = next_rank(own, world) * share;
        const uint32_t start = turned < chunk.packs ? turned : 0;
        const auto place = [=](uint32_t i) { return i + start < chunk.packs ? i + start : i + start - chunk.packs; };
        const auto put = [&](uint32_t i, Pack pack) {
            const uint32_t owner = place(i) / share;
            if (owner != own)
                store_staged(cell_of(owner) + uint64_t(place(i) - owner * share) * HIPCOMM_PACK_BYTES, pack);
        };
        if (whole_packs(from, chunk.first, chunk.packs) == chunk.packs) {
            const char* base = from.base + chunk.first * HIPCOMM_PACK_BYTES;
            copy_packs(chunk.packs, g,
                       [=](uint32_t i) { return load_pack(base + uint64_t(place(i)) * HIPCOMM_PACK_BYTES); }, put);
        } else {
            for (uint32_t i = g.thread; i < chunk.packs; i += g.threads)
                put(i, load_message(from, chunk.first + place(i)));
        }
    }
}

/* All threads: shard `owner` of the chunk comes from cell_of(owner), for every owner but `own`. */
template <class CellOf>
DEVICE void unstage_shards(const Launch& launch, const Message& to, const Chunk& chunk, uint32_t own, CellOf cell_of) {
    const uint32_t world = launch.args.world;
    if constexpr (kOneThread) {
        for (uint32_t i = 1; i < world; ++i) {
            const uint32_t owner = (own + i) % world;
            unstage(launch, to, shard_of(chunk, owner, world), cell_of(owner));
        }
    } else {
        const Geometry& g = launch.geometry;
        const uint32_t share = share_of(chunk, world);
        /* the own shard is in its place already: walk over the others only */
        const uint32_t before = own * share < chunk.packs ? own * share : chunk.packs;
        const uint32_t mine = shard_of(chunk, own, world).packs;
        const auto place = [=](uint32_t i) { return i < before ? i : i + mine; };
        const auto get = [&](uint32_t i) {
            const uint32_t pack = place(i);
            const uint32_t owner = pack / share;
            return load_staged(cell_of(owner) + uint64_t(pack - owner * share) * HIPCOMM_PACK_BYTES);
        };
        const uint32_t others = chunk.packs - mine;
        if (whole_packs(to, chunk.first, chunk.packs) == chunk.packs) {
            char* base = to.base + chunk.first * HIPCOMM_PACK_BYTES;
            copy_packs(others, g, get,
                       [=](uint32_t i, Pack pack) { store_pack(base + uint64_t(place(i)) * HIPCOMM_PACK_BYTES, pack); });
        } else {
            for (uint32_t i = g.thread; i < others; i += g.threads) store_message(to, chunk.first + place(i), get(i));
        }
    }
}
