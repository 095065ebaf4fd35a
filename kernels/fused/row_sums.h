/* Sums over a row from those of its pieces. Whoever has a piece posts its sum; then all threads of the row ask for the
 * total. A row has up to two such sums, one after the other: `which`. In the same way pieces post the bits of their
 * largest magnitudes, and then ask for the largest of some pieces (amax.h). */
#pragma once

#include "../launch/line.h"
#include "pieces.h"

constexpr uint32_t kAmax = 2; /* which */

/* All lanes: the largest of `amax` and of bits of load(i), of pieces i from first on, as far as there are. */
template <class Load>
DEVICE uint32_t most_of(uint32_t of_row, uint32_t first, uint32_t count, uint32_t lane, uint32_t amax, Load load) {
    const uint32_t end = first + count < of_row ? first + count : of_row;
    NO_UNROLL
    for (uint32_t i = first + lane; i < end; i += kLanes) {
        const uint32_t posted = bits_of_float(load(i));
        amax = posted > amax ? posted : amax;
    }
#ifdef HAS_WARPS
    NO_UNROLL
    for (uint32_t mask = 1; mask < kLanes; mask *= 2) {
        const uint32_t other = shuffle_xor(amax, mask);
        amax = other > amax ? other : amax;
    }
#endif
    return amax;
}

/* Of a row that one block works on: in the block's scratch behind its state. Consecutive sums use different partials, so
 * that one barrier a sum is enough: who writes partials again has met everybody who read them at the barrier of the
 * sum in between. */
struct BlockSums {
    const Geometry& geometry;
    uint32_t turn = 0;

    DEVICE_MEMBER float* partials() const {
        return reinterpret_cast<float*>(geometry.shared + HIPCOMM_BLOCK_STATE_BYTES) + turn * kMostPartials;
    }
    DEVICE_MEMBER bool post(uint64_t, uint32_t, uint32_t, uint32_t piece, float sum) {
        if (geometry.thread % kLanes == 0) partials()[piece] = sum;
        return true;
    }
    DEVICE_MEMBER bool total(uint64_t, uint32_t, uint32_t of_row, float& sum) {
        block_barrier();
        const float* const from = partials();
        sum = tree_of(of_row, geometry.thread % kLanes, [=](uint32_t i) IN_LINE { return from[i]; });
        turn ^= 1;
        return true;
    }
    DEVICE_MEMBER void meet() {
        block_barrier();
        turn ^= 1;
    }
    /* All lanes, after meet(): the largest of `amax` and what pieces first, first + 1, ... first + count - 1 have posted. */
    DEVICE_MEMBER bool most(uint64_t, uint32_t of_row, uint32_t first, uint32_t count, uint32_t& amax) const {
        const float* const from = BlockSums{geometry, turn ^ 1}.partials();
        amax = most_of(of_row, first, count, geometry.thread % kLanes, amax, [=](uint32_t i) IN_LINE { return from[i]; });
        return true;
    }
};
constexpr uint32_t kBlockSumsBytes = 2 * kMostPartials * sizeof(float);

/* Of rows that all blocks of a launch share: in words in this rank's line memory, each the first part of a line, with
 * the epoch in it (launch/line.h). Every warp of a row polls all of the row's words and adds them up itself: no barrier,
 * and no memory that has to be cleared. Nobody else may write to these lines in this epoch. */
struct WordSums {
    const Launch& launch;
    const uint64_t begin; /* bytes of line memory before them */
    const uint32_t rows;  /* that there may be */

    /* Where a piece's magnitude is posted the row has several pieces, and so two lines for each. */
    DEVICE_MEMBER char* word(const Launch& now, uint64_t row, uint32_t which, uint32_t of_row, uint32_t piece) const {
        const uint32_t index = (uint32_t(row) + (which == kAmax ? rows : 0)) * of_row + piece;
        char* const area = line_area(now, now.args.rank, now.parity()) + begin;
        return line_of<kPackWords>(area, index) + which % kAmax * kPartStride;
    }
    /* False in all lanes if the block has failed; then nothing is posted. */
    DEVICE_MEMBER bool post(uint64_t row, uint32_t which, uint32_t of_row, uint32_t piece, float sum) const {
        if (any_lane(block_failed(launch))) return false;
        const Launch now = new_phase(launch);
        const uint32_t data[kPartData] = {bits_of_float(sum)};
        if (now.geometry.thread % kLanes == 0) store_part(word(now, row, which, of_row, piece), data, now.flag());
        return true;
    }
    DEVICE_MEMBER float posted(const Launch& now, const char* from) const {
        LinePart part;
        wait_for_own_blocks(now, [&]() IN_LINE {
            part = load_part(from);
            return epoch_of(part) == now.flag();
        });
        return float_from_bits(word_of(part, 0));
    }
    /* False in all lanes if the block has failed. */
    DEVICE_MEMBER bool total(uint64_t row, uint32_t which, uint32_t of_row, float& sum) const {
        const Launch now = new_phase(launch);
        sum = tree_of(of_row, now.geometry.thread % kLanes,
                      [&](uint32_t i) IN_LINE { return posted(now, word(now, row, which, of_row, i)); });
        return !any_lane(block_failed(launch));
    }
    DEVICE_MEMBER void meet() const {}
    DEVICE_MEMBER bool most(uint64_t row, uint32_t of_row, uint32_t first, uint32_t count, uint32_t& amax) const {
        const Launch now = new_phase(launch);
        amax = most_of(of_row, first, count, now.geometry.thread % kLanes, amax,
                       [&](uint32_t i) IN_LINE { return posted(now, word(now, row, kAmax, of_row, i)); });
        return !any_lane(block_failed(launch));
    }
};

/* Of rows that blocks share; where blocks run one after the other, there is one. */
#ifdef HAS_WARPS
using SumsOfShared = WordSums;
#else
struct SumsOfShared : BlockSums {
    const Launch& launch;

    SumsOfShared(const Launch& of, uint64_t, uint32_t) : BlockSums{of.geometry}, launch(of) {}
    bool post(uint64_t row, uint32_t which, uint32_t of_row, uint32_t piece, float sum) {
        return !block_failed(launch) && BlockSums::post(row, which, of_row, piece, sum);
    }
};
#endif
