/* Reduce-scatter whose results stay in the type that elements accumulate in, unrounded and, of an average, undivided:
 * what a node of a world over nodes adds to the sums of the others (docs/nodes.md). Of floats that are narrower than
 * that; the other types' are those of reduce_pipelined. Stages, turns and staging memory are as there. */
#include "../launch/epoch.h"
#include "../numbers/reduce.h"
#include "contributions.h"

enum Stage : uint32_t { kPush, kReduce };

DEVICE SegmentCells cells_of(const Launch& launch) { return {launch, kRing, launch.args.world}; }

/* The results of one pack of elements. */
template <class T>
struct WideResults {
    static constexpr uint32_t kPacks = sizeof(float) / sizeof(T);
    Pack at[kPacks];
};

template <class T, class Op>
DEVICE WideResults<T> reduce_pack(const Launch& launch, const Rows& own, uint64_t first, uint32_t step, uint32_t i) {
    Reduction<T, Op> reduction;
    NO_UNROLL
    for (uint32_t rank = 0; rank < launch.args.world; ++rank) {
        const Launch again = new_phase(launch); /* fewer registers than to keep its arguments */
        const Pack pack = rank == again.args.rank ? load_rows(own, first + i)
                                                  : load_staged(cells_of(again).cell(again.args.rank, step, rank) +
                                                                uint64_t(i) * HIPCOMM_PACK_BYTES);
        reduction.start_or_add(rank == 0, pack, again.args);
    }
    return __builtin_bit_cast(WideResults<T>, reduction.total);
}

template <class T, class Op>
DEVICE void reduce_contributions(const Launch& launch, uint32_t step) {
    constexpr uint32_t kPacks = WideResults<T>::kPacks;
    const Geometry& g = launch.geometry;
    const Message send = send_segment(launch, launch.args.rank);
    const Chunk chunk = chunk_of_segment(launch, packs_of(send.bytes), step);
    const Rows own = in_rows(launch, send);
    const Message to = message(launch.args.recv, send.bytes * kPacks);
    NO_UNROLL
    for (uint32_t i = g.thread; i < chunk.packs; i += g.threads) {
        const WideResults<T> results = reduce_pack<T, Op>(launch, own, chunk.first, step, i);
        UNROLL(4)
        for (uint32_t p = 0; p < kPacks; ++p)
            if (const uint64_t at = (chunk.first + i) * kPacks + p; at < packs_of(to.bytes))
                store_message(to, at, results.at[p]);
    }
}

template <class T, class Op>
DEVICE void reduce_scatter_partial(const hipcommSegmentArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args.common, g);
    const uint32_t steps = steps_of_block(launch, args.most_packs);
    const Weights<2> weights{{1, 1}};
    in_turns(launch, steps, 2, 1, [&](uint32_t turn) {
        in_stage(launch, weights, kPush, turn, steps,
                 [](const Launch& part, uint32_t step) { push_contributions(part, step, cells_of); });
        in_stage(launch, weights, kReduce, turn, steps,
                 [](const Launch& part, uint32_t step) { reduce_contributions<T, Op>(part, step); });
    });
    end_launch(launch);
}

#define PARTIAL_KERNEL(name, T, Op) \
    KERNEL(hipcomm_reduce_scatter_partial_##name, (reduce_scatter_partial<T, Op>), hipcommSegmentArgs, HIPCOMM_MAX_THREADS)
PARTIAL_KERNEL(sum_float16, float16, Sum)
PARTIAL_KERNEL(sum_bfloat16, bfloat16, Sum)
PARTIAL_KERNEL(prod_float16, float16, Prod)
PARTIAL_KERNEL(prod_bfloat16, bfloat16, Prod)
PARTIAL_KERNEL(float8, Float8, AnyOperation)
