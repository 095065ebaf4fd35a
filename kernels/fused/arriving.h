/* Rows that travel as lines of one pack, and their reduction. Lines of one pack: lanes own powers of two of a row's
 * elements, and units of 12 bytes are not. */
#pragma once

#include "../lines/unit.h"
#include "rank_sums.h"

/* Rows as the peers send them: [sender][row of the launch][pack], a sender's lines in whole groups, so that what is
 * between two senders' is the same for all lines. */
struct RowLines {
    uint32_t packs, of_rank; /* of a row, of all rows of a rank */

    /* The first part of a pack's line, as this rank sends it to `rank`'s; and as `sender` sends it here. */
    DEVICE_MEMBER char* place(const Launch& launch, uint32_t rank, uint32_t sender, uint32_t row, uint32_t pack) const {
        return line_of<kPackWords>(line_area(launch, rank, launch.parity()) + bytes_before(sender), row * packs + pack);
    }
    DEVICE_MEMBER uint64_t bytes_before(uint32_t sender) const {
        return uint64_t(sender * of_rank) * HIPCOMM_LINE_BYTES;
    }
};
template <class T>
DEVICE RowLines row_lines(const hipcommNormArgs& args) {
    const uint32_t packs = uint32_t(packs_of(uint64_t(args.hidden) * sizeof(T)));
    return {packs, (uint32_t(args.count) * packs + kLineGroup - 1) / kLineGroup * kLineGroup};
}

template <class T>
constexpr uint32_t kSlicePacks = sizeof(Slice<T>) / HIPCOMM_PACK_BYTES;

template <class T>
struct SlicePacks {
    Words<kPackWords> pack[kSlicePacks<T>];
};

/* A piece of row `row` of the sender that `of` says, to the ranks first, first + 1, ... first + count - 1 behind this one. */
template <class T, uint32_t kOfLane, bool kSimple>
DEVICE void send_piece(const Launch& launch, const hipcommNormArgs& args, uint32_t first, uint32_t count, uint32_t of,
                       uint32_t row, const Pieces<kOfLane, kSimple>& pieces, uint32_t piece,
                       const Slice<T> (&x)[kOfLane]) {
    const RowLines lines = row_lines<T>(args);
    const uint32_t self = launch.args.rank;
    UNROLL(2)
    for (uint32_t p = 0; p < kOfLane; ++p) {
        const auto packs = __builtin_bit_cast(SlicePacks<T>, x[p]);
        NO_UNROLL
        for (uint32_t k = 0; k < kSlicePacks<T>; ++k) {
            const uint32_t pack = pieces.slice(piece, p) * kSlicePacks<T> + k;
            if (pack >= lines.packs) continue;
            const uint64_t offset = uint64_t(lines.place(launch, self, of, row, pack) - launch.args.own_control);
            NO_UNROLL
            for (uint32_t i = first; i < first + count; ++i)
                store_line(launch.args.control[rank_behind(self, launch.args.world, i)] + offset, packs.pack[k],
                           launch.flag());
        }
    }
}

/* v: this rank's own piece; then the sum over ranks in rank order, rounded to T. Anything if a wait failed, which
 * block_failed() then tells this thread. The lines of a lane are looked at together: one after the other they would cost
 * a latency each. */
template <class T, uint32_t kOfLane, bool kSimple>
DEVICE void reduce_lines(const Launch& launch, const hipcommNormArgs& args, uint32_t row,
                         const Pieces<kOfLane, kSimple>& pieces, uint32_t piece, Slice<T> (&v)[kOfLane]) {
    const RowLines lines = row_lines<T>(args);
    const uint32_t world = launch.args.world, self = launch.args.rank;
    if constexpr (kOneThread) {
        auto packs = __builtin_bit_cast(SlicePacks<T>, v[0]);
        for (uint32_t k = 0; k < kSlicePacks<T> && piece * kSlicePacks<T> + k < lines.packs; ++k) {
            RankSum<T, Words<kPackWords>> sum;
            for (uint32_t rank = 0; rank < world; ++rank) {
                Words<kPackWords> theirs = packs.pack[k];
                const char* const line = lines.place(launch, self, rank, row, piece * kSlicePacks<T> + k);
                if (rank != self) wait_until(launch, rank, [&]() IN_LINE { return load_line(line, theirs, launch.flag()); });
                sum.add(rank == 0, theirs);
            }
            packs.pack[k] = sum.rounded();
        }
        v[0] = __builtin_bit_cast(Slice<T>, packs);
    } else {
        static_assert(kSlicePacks<T> == 1, "a slice is a line");
        constexpr uint32_t kRanks = kOfLane >= kRanksInFlight ? 1 : kRanksInFlight / kOfLane; /* as registers allow */
        const char* place[kOfLane];
        bool has[kOfLane];
        UNROLL(2)
        for (uint32_t p = 0; p < kOfLane; ++p) {
            place[p] = lines.place(launch, self, 0, row, pieces.slice(piece, p));
            has[p] = pieces.slice(piece, p) < lines.packs;
        }
        RankSum<T, Slice<T>> sum[kOfLane];
        NO_UNROLL
        for (uint32_t first = 0; first < world; first += kRanks) {
            Words<kPackWords> in[kRanks][kOfLane];
            uint32_t late = first;
            wait_until(launch, late, [&]() IN_LINE {
                LineParts<kPackWords> parts[kRanks][kOfLane];
                UNROLL(4)
                for (uint32_t k = 0; k < kRanks; ++k) {
                    const uint32_t rank = first + k;
                    UNROLL(2)
                    for (uint32_t p = 0; p < kOfLane; ++p) {
                        const bool wanted = has[p] && rank < world && rank != self;
                        UNROLL(4)
                        for (uint32_t i = 0; i < kPartsOf<kPackWords>; ++i)
                            parts[k][p].part[i] = load_part_if(
                                wanted, place[p] + lines.bytes_before(rank) + i * kPartStride, launch.flag());
                    }
                }
                /* why: receive_units() in lines/unit.h */
                UNROLL(4)
                for (uint32_t k = 0; k < kRanks; ++k)
                    for (auto& line : parts[k])
                        for (LinePart& part : line.part) loaded_by_now(part);
                bool all = true;
                UNROLL(4)
                for (uint32_t k = 0; k < kRanks; ++k) {
                    bool came = true;
                    UNROLL(2)
                    for (uint32_t p = 0; p < kOfLane; ++p)
                        came &= open_parts(parts[k][p], in[k][p], launch.flag());
                    late = came ? late : first + k;
                    all &= came;
                }
                return all;
            });
            UNROLL(4)
            for (uint32_t k = 0; k < kRanks; ++k) {
                const uint32_t rank = first + k;
                if (rank >= world) continue;
                UNROLL(2)
                for (uint32_t p = 0; p < kOfLane; ++p) {
                    hold(in[k][p]);
                    Slice<T> theirs = __builtin_bit_cast(Slice<T>, in[k][p]);
                    if (rank == self) theirs = v[p];
                    hold(theirs);
                    sum[p].add(rank == 0, theirs);
                }
            }
        }
        UNROLL(2)
        for (uint32_t p = 0; p < kOfLane; ++p) v[p] = sum[p].rounded();
    }
}

/* A piece of a row that one rank sends, which `of` says among the senders. Anything if the wait failed. */
template <class T, uint32_t kOfLane, bool kSimple>
DEVICE void receive_piece(const Launch& launch, const hipcommNormArgs& args, uint32_t sender, uint32_t of, uint32_t row,
                          const Pieces<kOfLane, kSimple>& pieces, uint32_t piece, Slice<T> (&v)[kOfLane]) {
    const RowLines lines = row_lines<T>(args);
    if constexpr (kOneThread) {
        SlicePacks<T> packs{};
        for (uint32_t k = 0; k < kSlicePacks<T> && piece * kSlicePacks<T> + k < lines.packs; ++k) {
            const char* const line = lines.place(launch, launch.args.rank, of, row, piece * kSlicePacks<T> + k);
            wait_until(launch, sender, [&]() IN_LINE { return load_line(line, packs.pack[k], launch.flag()); });
        }
        v[0] = __builtin_bit_cast(Slice<T>, packs);
    } else {
        Words<kPackWords> in[kOfLane];
        wait_until(launch, sender, [&]() IN_LINE {
            LineParts<kPackWords> parts[kOfLane];
            UNROLL(2)
            for (uint32_t p = 0; p < kOfLane; ++p) {
                const uint32_t pack = pieces.slice(piece, p);
                const char* const place = lines.place(launch, launch.args.rank, of, row, pack);
                UNROLL(4)
                for (uint32_t i = 0; i < kPartsOf<kPackWords>; ++i)
                    parts[p].part[i] = load_part_if(pack < lines.packs, place + i * kPartStride, launch.flag());
            }
            for (auto& line : parts)
                for (LinePart& part : line.part) loaded_by_now(part);
            bool came = true;
            UNROLL(2)
            for (uint32_t p = 0; p < kOfLane; ++p) came &= open_parts(parts[p], in[p], launch.flag());
            return came;
        });
        UNROLL(2)
        for (uint32_t p = 0; p < kOfLane; ++p) v[p] = __builtin_bit_cast(Slice<T>, in[p]);
        hold(v);
    }
}
