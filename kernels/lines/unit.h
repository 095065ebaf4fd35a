/* Units: what one thread moves, and reduces, at a time in the one-shot all_reduce and reduce_scatter, to and from
 * all ranks side by side. A unit travels as one line. It is as short as whole elements and full parts of a line
 * allow: where a part holds three words 12 bytes, or 24 for elements of 8; where it holds one word a pack, which
 * is one access to the caller's memory.
 *
 * So a thread has little to do one after the other, and nothing passes through shared memory: with a thread for
 * each line and rank, which met there, all_reduce of 1 to 32 KiB took 6 to 12 % longer on H200 (docs/journal.md).
 *
 * Blocks have at most HIPCOMM_MAX_UNIT_THREADS threads, half as many as elsewhere: what all ranks send is in registers
 * at once, and to spill them costs more (1 KiB on 4 H200 3.2 us in place of 2.5).
 */
#pragma once

#include "../launch/line.h"
#include "../numbers/reduce.h"
#include "../data/rows.h"

template <class T>
constexpr uint32_t kUnitWords = HIPCOMM_UNIT_WORDS(kPartData, sizeof(T));

/* Units of a message that goes as lines, and so is a few MiB at most. */
template <uint32_t kWords>
DEVICE uint32_t units_of(uint64_t bytes) {
    return (uint32_t(bytes) + kWords * 4 - 1) / (kWords * 4);
}

/* The units of a thread: unit(begin) for begin = first, first + stride, ..., where it is below the message's. begin
 * is the same for all threads of a block. (A loop whose end is not makes LLVM 22 fail on amdgcn: "illegal VGPR to
 * SGPR copy".) */
struct UnitsOfThread {
    uint32_t first, stride, thread;
    DEVICE_MEMBER uint32_t unit(uint32_t begin) const { return begin + thread; }
};
DEVICE UnitsOfThread units_of_thread(const Geometry& g) {
    return {g.block * g.threads, g.blocks * g.threads, g.thread};
}

/* How many bytes from the message's beginning may be moved word by word. */
DEVICE uint64_t bytes_in_words(const Message& m) {
    return reinterpret_cast<uintptr_t>(m.base) % 4 == 0 ? m.bytes & ~uint64_t(3) : 0;
}

/* Unit `index` of a message; bytes past its end are zero. */
template <uint32_t kWords>
DEVICE Words<kWords> load_unit(const Message& m, uint32_t index) {
    if constexpr (kWords == kPackWords) return __builtin_bit_cast(Words<kWords>, load_message(m, index));
    const uint64_t begin = uint64_t(index) * (kWords * 4);
    const uint64_t in_words = bytes_in_words(m);
    Words<kWords> unit{};
    UNROLL(8)
    for (uint32_t i = 0; i < kWords; ++i)
        if (begin + i * 4 < in_words) unit.word[i] = load_word(m.base + begin + i * 4);
    if (!UNLIKELY(in_words < m.bytes)) return unit;
    NO_UNROLL
    for (uint64_t at = begin < in_words ? in_words : begin; at < m.bytes && at < begin + kWords * 4; ++at) {
        const uint32_t offset = uint32_t(at - begin), bits = uint32_t(uint8_t(m.base[at])) << offset % 4 * 8;
        UNROLL(8)
        for (uint32_t i = 0; i < kWords; ++i) unit.word[i] |= offset / 4 == i ? bits : 0;
    }
    return unit;
}

/* Bytes past the message's end stay untouched. */
template <uint32_t kWords>
DEVICE void store_unit(const Message& m, uint32_t index, const Words<kWords>& unit) {
    if constexpr (kWords == kPackWords) return store_message(m, index, __builtin_bit_cast(Pack, unit));
    const uint64_t begin = uint64_t(index) * (kWords * 4);
    const uint64_t in_words = bytes_in_words(m);
    UNROLL(8)
    for (uint32_t i = 0; i < kWords; ++i)
        if (begin + i * 4 < in_words) store_word(m.base + begin + i * 4, unit.word[i]);
    if (!UNLIKELY(in_words < m.bytes)) return;
    NO_UNROLL
    for (uint64_t at = begin < in_words ? in_words : begin; at < m.bytes && at < begin + kWords * 4; ++at) {
        const uint32_t offset = uint32_t(at - begin);
        uint32_t word = 0;
        UNROLL(8)
        for (uint32_t i = 0; i < kWords; ++i) word |= offset / 4 == i ? unit.word[i] : 0;
        m.base[at] = char(word >> offset % 4 * 8);
    }
}

/* A unit of a message in rows, from byte `begin` on; bytes past its end are zero. */
template <uint32_t kWords>
DEVICE Words<kWords> load_from_rows(const Rows& m, uint64_t begin) {
    if constexpr (kWords == kPackWords)
        return __builtin_bit_cast(Words<kWords>, load_rows(m, begin / HIPCOMM_PACK_BYTES));
    const uint64_t left = m.all.bytes - begin;
    Place place{m.all.base + begin / m.row_bytes * m.row_stride, begin % m.row_bytes};
    const auto advance = [&](uint32_t bytes) {
        const char* const address = place.row + place.in_row;
        place.in_row += bytes;
        if (place.in_row == m.row_bytes) place = {place.row + m.row_stride, 0};
        return address;
    };
    Words<kWords> unit{};
    if ((reinterpret_cast<uintptr_t>(m.all.base) | m.row_bytes | m.row_stride) % 4 == 0) {
        UNROLL(8)
        for (uint32_t i = 0; i < kWords; ++i)
            if (i * 4 < left) unit.word[i] = load_word(advance(4));
        return unit;
    }
    NO_UNROLL
    for (uint32_t offset = 0; offset < kWords * 4 && offset < left; ++offset) {
        const uint32_t bits = uint32_t(uint8_t(*advance(1))) << offset % 4 * 8;
        UNROLL(8)
        for (uint32_t i = 0; i < kWords; ++i) unit.word[i] |= offset / 4 == i ? bits : 0;
    }
    return unit;
}

/* The i-th rank after `rank`, round the world; i < world. */
DEVICE uint32_t rank_behind(uint32_t rank, uint32_t world, uint32_t i) {
    return rank + i < world ? rank + i : rank + i - world;
}

/* Call visit(peer) for every other rank, beginning with the next one. kRanksInFlight of them are unrolled:
 * rolled up, the loop took 0.1 us longer on H200. */
template <class Visit>
DEVICE void for_each_peer(const Launch& launch, Visit visit) {
    const uint32_t rank = launch.args.rank, world = launch.args.world;
    NO_UNROLL
    for (uint32_t first = 1; first < world; first += kRanksInFlight) {
        UNROLL(4)
        for (uint32_t k = 0; k < kRanksInFlight; ++k)
            if (first + k < world) visit(rank_behind(rank, world, first + k));
    }
}

/* Wait for line line_of_rank(rank) of each other rank of first, first + 1, ... (kRanksInFlight of them), and put what
 * it carries into in[]; anything if the wait failed. They are looked at together: one after the other they would
 * cost a latency each. */
template <uint32_t kWords, class LineOfRank>
DEVICE void receive_units(const Launch& launch, uint32_t first, LineOfRank line_of_rank,
                          Words<kWords> (&in)[kRanksInFlight]) {
    const hipcommKernelArgs& args = launch.args;
    char* const area = line_area(launch, args.rank, launch.parity());
    const auto awaited = [&](uint32_t rank) { return rank < args.world && rank != args.rank; };
    uint32_t late = first;
    wait_until(launch, late, [&] {
        LineParts<kWords> parts[kRanksInFlight] = {};
        UNROLL(4)
        for (uint32_t k = 0; k < kRanksInFlight; ++k)
            if (awaited(first + k)) parts[k] = load_parts<kWords>(line_of<kWords>(area, line_of_rank(first + k)));
        /* Without this the compiler takes a part to pieces where it is loaded, and so waits for it before it loads
         * the next: 0.2 us for each rank on H200. */
        UNROLL(4)
        for (uint32_t k = 0; k < kRanksInFlight; ++k)
            for (LinePart& part : parts[k].part) loaded_by_now(part);
        bool all = true;
        UNROLL(4)
        for (uint32_t k = 0; k < kRanksInFlight; ++k) {
            const bool came = open_parts(parts[k], in[k], launch.flag()) || !awaited(first + k);
            late = came ? late : first + k;
            all &= came;
        }
        return all;
    });
}

/* The reduction, in rank order, of this rank's own unit and of what the others have sent as line
 * line_of_rank(rank); anything if a wait failed, which block_failed() then tells this thread. */
template <class T, class Op, uint32_t kWords, class LineOfRank>
DEVICE Words<kWords> reduce_units(const Launch& launch, const Words<kWords>& own, LineOfRank line_of_rank) {
    Reduction<T, Op, Words<kWords>> reduction;
    NO_UNROLL
    for (uint32_t first = 0; first < launch.args.world; first += kRanksInFlight) {
        Words<kWords> in[kRanksInFlight] = {};
        receive_units(launch, first, line_of_rank, in);
        UNROLL(4)
        for (uint32_t k = 0; k < kRanksInFlight; ++k) {
            const uint32_t rank = first + k;
            if (rank >= launch.args.world) continue;
            if (rank == launch.args.rank) in[k] = own;
            reduction.start_or_add(rank == 0, in[k], launch.args);
        }
    }
    return reduction.finish(launch.args);
}
