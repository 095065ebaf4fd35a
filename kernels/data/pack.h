/* Packs of the caller's memory: any alignment, any length. Inside the runtime data moves in packs of
 * 16 bytes; only here do tails and alignment exist. */
#pragma once

#include "../arch/arch.h"

/* A message in the caller's memory, seen as packs; the last one may be short. */
struct Message {
    char* base;
    uint64_t bytes;
    bool whole_packs; /* a full pack may be moved in one access */
};

DEVICE Message message(const void* base, uint64_t bytes) {
    const bool aligned = reinterpret_cast<uintptr_t>(base) % HIPCOMM_PACK_BYTES == 0;
    return {static_cast<char*>(const_cast<void*>(base)), bytes, aligned || kUnalignedPacks};
}

DEVICE uint64_t packs_of(uint64_t bytes) { return (bytes + HIPCOMM_PACK_BYTES - 1) / HIPCOMM_PACK_BYTES; }

/* A pack in pieces: 4 bytes at a time where the address allows it, else byte by byte. The byte loops
 * stay loops: unrolled sixteen times they cost every kernel registers for the sake of its last pack. */
DEVICE Pack load_pieces(const char* p, uint32_t bytes) {
    if (reinterpret_cast<uintptr_t>(p) % 4 == 0 && bytes == HIPCOMM_PACK_BYTES) {
        const auto* words = reinterpret_cast<const uint32_t*>(p);
        return Pack{words[0], words[1], words[2], words[3]};
    }
    uint64_t low = 0, high = 0;
    NO_UNROLL
    for (uint32_t i = bytes; i-- > 0;) {
        high = high << 8 | low >> 56;
        low = low << 8 | uint8_t(p[i]);
    }
    return Pack{uint32_t(low), uint32_t(low >> 32), uint32_t(high), uint32_t(high >> 32)};
}
DEVICE void store_pieces(char* p, uint32_t bytes, Pack pack) {
    if (reinterpret_cast<uintptr_t>(p) % 4 == 0 && bytes == HIPCOMM_PACK_BYTES) {
        auto* words = reinterpret_cast<uint32_t*>(p);
        for (uint32_t i = 0; i < 4; ++i) words[i] = pack[i];
        return;
    }
    uint64_t low = uint64_t(pack[1]) << 32 | pack[0], high = uint64_t(pack[3]) << 32 | pack[2];
    NO_UNROLL
    for (uint32_t i = 0; i < bytes; ++i) {
        p[i] = char(low);
        low = low >> 8 | high << 56;
        high >>= 8;
    }
}

/* Pack `index` of a message; bytes past its end are zero. */
DEVICE Pack load_message(const Message& m, uint64_t index) {
    const uint64_t offset = index * HIPCOMM_PACK_BYTES;
    const uint64_t left = m.bytes - offset;
    if (!UNLIKELY(left < HIPCOMM_PACK_BYTES || !m.whole_packs)) return load_pack(m.base + offset);
    return load_pieces(m.base + offset, left < HIPCOMM_PACK_BYTES ? uint32_t(left) : HIPCOMM_PACK_BYTES);
}

/* Bytes past the message's end stay untouched. */
DEVICE void store_message(const Message& m, uint64_t index, Pack pack) {
    const uint64_t offset = index * HIPCOMM_PACK_BYTES;
    const uint64_t left = m.bytes - offset;
    if (!UNLIKELY(left < HIPCOMM_PACK_BYTES || !m.whole_packs)) return store_pack(m.base + offset, pack);
    store_pieces(m.base + offset, left < HIPCOMM_PACK_BYTES ? uint32_t(left) : HIPCOMM_PACK_BYTES, pack);
}

/* All threads: copy packs of one message of the caller to another. */
DEVICE void copy_message(const Geometry& g, const Message& to, const Message& from, uint64_t first,
                         uint32_t packs) {
    for (uint32_t i = g.thread; i < packs; i += g.threads)
        store_message(to, first + i, load_message(from, first + i));
}

/* How many of `packs` packs from `first` on may be moved whole. */
DEVICE uint32_t whole_packs(const Message& m, uint64_t first, uint32_t packs) {
    if (!m.whole_packs) return 0;
    const uint64_t whole = m.bytes / HIPCOMM_PACK_BYTES;
    const uint64_t left = whole > first ? whole - first : 0;
    return left < packs ? uint32_t(left) : packs;
}
