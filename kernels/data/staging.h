/* The staging slab, as the pipelined kernels use it, and the chunks they cut a message into.
 *
 * A block works through its chunks step by step, alone with the same block of the other ranks. Step s of
 * block b is chunk s * blocks + b of the message. Chunks wait in a ring of slots (turns.h): the first
 * slots of all blocks, their second slots, ..., so that few steps may have large chunks. A slot has areas (one
 * per stage), an area has one cell per sender.
 * The slab exists twice, by the parity of the epoch (hipcomm/abi/slabs.h says why).
 */
#pragma once

#include "../launch/launch.h"
#include "pack.h"

/* Packs first .. first + packs - 1 of the message. */
struct Chunk {
    uint64_t first;
    uint32_t packs;
};

DEVICE Chunk chunk_of_step(const Launch& launch, uint64_t message_packs, uint32_t step) {
    const hipcommKernelArgs& args = launch.args;
    const uint64_t first =
        (uint64_t(step) * args.blocks + launch.geometry.block) * args.chunk_packs;
    const uint64_t left = message_packs - first;
    return {first, left < args.chunk_packs ? uint32_t(left) : args.chunk_packs};
}

/* Steps of this block: its share of ceil(message / chunk) chunks. */
DEVICE uint32_t steps_of_block(const Launch& launch, uint64_t message_packs) {
    const hipcommKernelArgs& args = launch.args;
    const uint64_t chunks = (message_packs + args.chunk_packs - 1) / args.chunk_packs;
    return uint32_t((chunks + args.blocks - 1 - launch.geometry.block) / args.blocks);
}

DEVICE uint32_t next_rank(uint32_t rank, uint32_t world) { return rank + 1 < world ? rank + 1 : 0; }

/* Packs of a shard, when a chunk is split over all ranks; the last shards may be shorter. */
DEVICE uint32_t share_of(const Chunk& chunk, uint32_t world) { return (chunk.packs + world - 1) / world; }

/* The part of a chunk that `rank` owns. */
DEVICE Chunk shard_of(const Chunk& chunk, uint32_t rank, uint32_t world) {
    const uint32_t share = share_of(chunk, world);
    const uint32_t begin = rank * share < chunk.packs ? rank * share : chunk.packs;
    const uint32_t left = chunk.packs - begin;
    return {chunk.first + begin, left < share ? left : share};
}

/* Turns from writing into staging memory to reading it, and slots of the ring: turns.h says why. */
constexpr uint32_t kDelay = HIPCOMM_TURN_DELAY;
constexpr uint32_t kRing = HIPCOMM_RING_SLOTS;

/* Where things are in a staging slab. */

template <uint32_t kAreas>
struct Staging {
    const Launch& launch;
    const uint32_t cell_packs;
    const uint32_t senders; /* cells of an area */

    DEVICE_MEMBER char* cell(uint32_t rank, uint32_t step, uint32_t area, uint32_t sender) const {
        const uint64_t slot = uint64_t(step % kRing) * launch.args.blocks + launch.geometry.block;
        const uint64_t index = (slot * kAreas + area) * senders + sender;
        return launch.args.staging[rank] + launch.parity() * launch.args.staging_bytes +
               index * cell_packs * HIPCOMM_PACK_BYTES;
    }
};

/* All threads: copy packs of the caller's message into staging memory, this rank's or a peer's. */
DEVICE void stage(const Launch& launch, char* cell, const Message& from, const Chunk& part) {
    const Geometry& g = launch.geometry;
    const uint32_t whole = whole_packs(from, part.first, part.packs);
    copy_to_staging(cell, from.base + part.first * HIPCOMM_PACK_BYTES, whole, g);
    for (uint32_t i = whole + g.thread; i < part.packs; i += g.threads)
        store_staged(cell + i * HIPCOMM_PACK_BYTES, load_message(from, part.first + i));
}

/* All threads: copy packs out of own staging memory into the caller's message. */
DEVICE void unstage(const Launch& launch, const Message& to, const Chunk& part, const char* cell) {
    const Geometry& g = launch.geometry;
    const uint32_t whole = whole_packs(to, part.first, part.packs);
    copy_from_staging(to.base + part.first * HIPCOMM_PACK_BYTES, cell, whole, g);
    for (uint32_t i = whole + g.thread; i < part.packs; i += g.threads)
        store_message(to, part.first + i, load_staged(cell + i * HIPCOMM_PACK_BYTES));
}
