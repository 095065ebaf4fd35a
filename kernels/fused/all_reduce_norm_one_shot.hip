/* All-reduce, residual and norm, flag-in-data one-shot by rows: every rank sends all its rows to every peer as lines,
 * and sums up and finishes all rows itself. One one-way latency; 2 (n - 1) bytes over the links per byte of x.
 *
 * A block takes every blocks-th row. Line layout at the receiver: [sender][row of the launch][pack].
 */
#include "../launch/epoch.h"
#include "../lines/unit.h"
#include "sources.h"

/* Rows as the peers send them. */
struct RowLines {
    uint64_t packs, of_rank; /* of a row, of all rows of a rank */

    DEVICE_MEMBER uint64_t line(uint32_t sender, uint64_t row, uint32_t pack) const {
        return sender * of_rank + row * packs + pack;
    }
};
template <class T>
DEVICE RowLines row_lines(const hipcommNormArgs& args) {
    const uint64_t packs = packs_of(uint64_t(args.hidden) * sizeof(T));
    return {packs, args.count * packs};
}
template <class T>
DEVICE Message row_of_x(const hipcommNormArgs& args, uint64_t row) {
    return row_of<T>(args.common.send, args.x_stride, args.first + row, args.hidden);
}

/* A row that arrives as lines. */
template <class T>
struct ArrivingRow : KeptInStaging<T> {
    const Launch& launch;
    const uint64_t row;
    static constexpr bool kWithResidual = false;

    DEVICE_MEMBER void load(uint32_t i, Slice<T>& sum) const {
        constexpr uint32_t kPacks = sizeof(Slice<T>) / HIPCOMM_PACK_BYTES;
        struct Packs {
            Words<kPackWords> pack[kPacks];
        } packs{};
        const Launch now = new_phase(launch);
        const auto& args = reinterpret_cast<const hipcommNormArgs&>(now.args);
        const Message x = row_of_x<T>(args, row);
        const RowLines lines = row_lines<T>(args);
        NO_UNROLL
        for (uint32_t k = 0; k < kPacks && i * kPacks + k < lines.packs; ++k) {
            const uint32_t pack = i * kPacks + k;
            packs.pack[k] = reduce_units<T, Sum, kPackWords>(
                now, __builtin_bit_cast(Words<kPackWords>, load_message(x, pack)),
                [&](uint32_t rank) { return lines.line(rank, row, pack); });
        }
        sum = __builtin_bit_cast(Slice<T>, packs);
    }
    DEVICE_MEMBER bool failed() const { return block_failed(launch); }
};

template <class T>
DEVICE void push_rows(const Launch& launch, const hipcommNormArgs& args) {
    const Geometry& g = launch.geometry;
    const RowLines lines = row_lines<T>(args);
    for (uint64_t row = g.block; row < args.count; row += g.blocks) {
        const Message x = row_of_x<T>(args, row);
        for (uint32_t pack = g.thread; pack < lines.packs; pack += g.threads) {
            const Pack contribution = load_message(x, pack);
            for_each_peer(launch, [&](uint32_t peer) {
                send_line(launch, peer, lines.line(launch.args.rank, row, pack), contribution);
            });
        }
    }
}

template <class T, Norm kNorm>
DEVICE void finish_rows(const Launch& launch, const hipcommNormArgs& args) {
    const Geometry& g = launch.geometry;
    RowMemory memory = row_memory(g);
    for (uint64_t row = g.block; row < args.count; row += g.blocks) {
        const ArrivingRow<T> source{{staged_row<T>(launch, args, args.common.rank, row)}, launch, row};
        if (!finish_row<T, kNorm>(memory, args, args.first + row, source)) return;
    }
}

template <class T, Norm kNorm>
DEVICE void all_reduce_norm_one_shot(const hipcommNormArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args.common, g);
    if (is_behind_failure(launch)) return end_launch(launch);
    push_rows<T>(new_phase(launch), new_sweep(args));
    finish_rows<T, kNorm>(new_phase(launch), new_sweep(args));
    end_launch(launch);
}

NORM_KERNELS(all_reduce_norm_one_shot, HIPCOMM_MAX_UNIT_THREADS)
