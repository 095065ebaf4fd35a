/* Sums over a row from those of its pieces. Whoever has a piece posts its sum; then all threads of the row ask for the
 * total. A row has up to two such sums, one after the other: `which`. */
#pragma once

#include "../launch/line.h"
#include "pieces.h"

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
};
constexpr uint32_t kBlockSumsBytes = 2 * kMostPartials * sizeof(float);

/* Of rows that all blocks of a launch share: in words in this rank's line memory, each the first part of a line, with
 * the epoch in it (launch/line.h). Every warp of a row polls all of the row's words and adds them up itself: no barrier,
 * and no memory that has to be cleared. Nobody else may write to these lines in this epoch. */
struct WordSums {
    const Launch& launch;
    const uint64_t begin; /* bytes of line memory before them */

    DEVICE_MEMBER char* word(const Launch& now, uint32_t rank, uint32_t index, uint32_t which) const {
        return line_of<kPackWords>(line_area(now, rank, now.parity()) + begin, index) + which * kPartStride;
    }
    /* False in all lanes if the block has failed; then nothing is posted. */
    DEVICE_MEMBER bool post(uint64_t row, uint32_t which, uint32_t of_row, uint32_t piece, float sum) const {
        if (any_lane(block_failed(launch))) return false;
        const Launch now = new_phase(launch);
        const uint32_t data[kPartData] = {bits_of_float(sum)};
        if (now.geometry.thread % kLanes == 0)
            store_part(word(now, now.args.rank, uint32_t(row) * of_row + piece, which), data, now.flag());
        return true;
    }
    /* False in all lanes if the block has failed. */
    DEVICE_MEMBER bool total(uint64_t row, uint32_t which, uint32_t of_row, float& sum) const {
        const Launch now = new_phase(launch);
        sum = tree_of(of_row, now.geometry.thread % kLanes, [&](uint32_t i) IN_LINE {
            const char* const from = word(now, now.args.rank, uint32_t(row) * of_row + i, which);
            LinePart part;
            wait_for_own_blocks(now, [&]() IN_LINE {
                part = load_part(from);
                return epoch_of(part) == now.flag();
            });
            return float_from_bits(word_of(part, 0));
        });
        return !any_lane(block_failed(launch));
    }
};

/* Of rows that blocks share; where blocks run one after the other, there is one. */
#ifdef HAS_WARPS
using SumsOfShared = WordSums;
#else
struct SumsOfShared : BlockSums {
    const Launch& launch;

    SumsOfShared(const Launch& of, uint64_t) : BlockSums{of.geometry}, launch(of) {}
    bool post(uint64_t row, uint32_t which, uint32_t of_row, uint32_t piece, float sum) {
        return !block_failed(launch) && BlockSums::post(row, which, of_row, piece, sum);
    }
};
#endif
