/* All-reduce, direct: every rank reads its shard from all inputs and writes the sum into all results,
 * between two barriers. For registered memory: nothing is copied in or out. Bytes over the links:
 * 2 (n - 1)/n per byte of the message.
 *
 * A pack is read and written by its owner alone, so in-place calls are safe.
 */
#include "../launch/epoch.h"
#include "../numbers/reduce_run.h"
#include "../numbers/reduction_kernels.h"
#include "side_by_side.h"

template <class T, class Op>
DEVICE void all_reduce_direct(const hipcommKernelArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args, g);
    if (!enter_direct(launch)) return end_launch(launch);

    const RankBuffers* const buffers = rank_buffers(launch);
    const uint64_t packs = packs_of(args.bytes);
    const uint64_t share = (packs + args.world - 1) / args.world;
    const uint64_t begin = args.rank * share < packs ? args.rank * share : packs;
    const uint64_t end = packs - begin < share ? packs : begin + share;
    uint32_t whole = uint32_t(-1); /* at most: packs of the shard that may be moved whole */
    NO_UNROLL
    for (uint32_t rank = 0; rank < args.world; ++rank) {
        const uint32_t of_send = whole_packs(message(buffers->send(rank), args.bytes), begin, whole);
        whole = whole_packs(message(buffers->recv(rank), args.bytes), begin, of_send);
    }
    const uint64_t middle = end - begin < whole ? end : begin + whole;
    /* every rank begins with another peer, so that all links are busy */
    const Receivers everybody{args.rank + 1, args.world};
    if constexpr (kOneThread && kChosenByType<Op>) {
        const uint64_t first = begin * HIPCOMM_PACK_BYTES;
        reduce_run<T, Op>(
            args, g.block == 0 ? (middle - begin) * HIPCOMM_PACK_BYTES : 0, everybody,
            [&](uint32_t rank) -> const char* { return buffers->send(rank) + first; },
            [&](uint32_t rank) { return buffers->recv(rank) + first; });
    } else {
        reduce_side_by_side<T, Op, kRanksInFlight>(
            launch, begin, middle, everybody,
            [&](uint32_t rank, uint64_t i) { return load_staged(buffers->send(rank) + i * HIPCOMM_PACK_BYTES); },
            [&](uint32_t rank, uint64_t i, Pack pack) {
                store_staged(buffers->recv(rank) + i * HIPCOMM_PACK_BYTES, pack);
            });
    }
    reduce_side_by_side<T, Op, 1>(
        launch, middle, end, everybody,
        [&](uint32_t rank, uint64_t i) { return load_message(message(buffers->send(rank), args.bytes), i); },
        [&](uint32_t rank, uint64_t i, Pack pack) {
            store_message(message(buffers->recv(rank), args.bytes), i, pack);
        });
    leave_direct(launch);
    end_launch(launch);
}

REDUCTION_KERNELS(all_reduce_direct, hipcommKernelArgs, HIPCOMM_MAX_THREADS)
