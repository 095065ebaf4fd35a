/* All-reduce, pipelined two-shot through the staging slab: for messages of any length.
 *
 * Every chunk is split into one shard per rank. Three stages (common/turns.h):
 *   push     copy shard p of my chunk into owner p's staging (contributions)
 *   reduce   reduce everybody's contributions to my shard; write the sum to my result and into
 *            everybody's staging (results)
 *   collect  copy the other shards' results into my result
 * Turn t pushes step t, reduces step t - kDelay and collects step t - 2 kDelay.
 * Bytes over the links: 2 (n - 1)/n per byte of the message, the least that an all-reduce needs.
 */
#include "common/epoch.h"
#include "common/reduce.h"
#include "common/reduce_run.h"
#include "common/shards.h"
#include "common/turns.h"

enum Area : uint32_t { kContributions, kResults, kAreas };

using Cells = Staging<kAreas>;

/* Who does what. */
constexpr Part kPush{1, 2};
constexpr Part kReduce{3, 3};
constexpr Part kCollect{6, 2};

DEVICE Cells cells_of(const Launch& launch) {
    const uint32_t world = launch.args.world;
    return {launch, (launch.args.chunk_packs + world - 1) / world, world};
}

DEVICE void push_shards(const Launch& launch, uint32_t step) {
    const hipcommKernelArgs& args = launch.args;
    const Cells cells = cells_of(launch);
    stage_shards(launch, message(args.send, args.bytes), chunk_of_step(launch, packs_of(args.bytes), step),
                 args.rank, [&](uint32_t owner) { return cells.cell(owner, step, kContributions, args.rank); });
}

/* Reduce packs begin .. end - 1 of the shard: kLines packs per thread at a time, kRanks ranks' loads of
 * each in flight together. */
template <class T, class Op, uint32_t kLines, uint32_t kRanks, class LoadOwn, class StoreOwn>
DEVICE void reduce_packs(const Launch& launch, uint32_t step, uint32_t begin, uint32_t end, LoadOwn load_own,
                         StoreOwn store_own) {
    const hipcommKernelArgs& args = launch.args;
    const Cells cells = cells_of(launch);
    const uint32_t threads = launch.geometry.threads;
    NO_UNROLL
    for (uint32_t base = begin + launch.geometry.thread; base < end; base += threads * kLines) {
        Reduction<T, Op> reduction[kLines];
        NO_UNROLL
        for (uint32_t first = 0; first < args.world; first += kRanks) {
            Pack packs[kRanks][kLines]{};
            UNROLL(8)
            for (uint32_t r = 0; r < kRanks; ++r) {
                const uint32_t rank = first + r;
                const char* cell = cells.cell(args.rank, step, kContributions, rank);
                UNROLL(8)
                for (uint32_t k = 0; k < kLines; ++k) {
                    const uint32_t i = base + k * threads;
                    if (rank >= args.world || i >= end) continue;
                    packs[r][k] =
                        rank == args.rank ? load_own(i) : load_staged(cell + uint64_t(i) * HIPCOMM_PACK_BYTES);
                }
            }
            UNROLL(8)
            for (uint32_t r = 0; r < kRanks; ++r) {
                if (first + r >= args.world) continue;
                UNROLL(8)
                for (uint32_t k = 0; k < kLines; ++k) reduction[k].start_or_add(first + r == 0, packs[r][k], args);
            }
        }
        Pack results[kLines];
        UNROLL(8)
        for (uint32_t k = 0; k < kLines; ++k) {
            results[k] = reduction[k].finish(args);
            if (base + k * threads < end) store_own(base + k * threads, results[k]);
        }
        NO_UNROLL
        for (uint32_t peer = next_rank(args.rank, args.world); peer != args.rank; peer = next_rank(peer, args.world)) {
            char* cell = cells.cell(peer, step, kResults, args.rank);
            UNROLL(8)
            for (uint32_t k = 0; k < kLines; ++k) {
                const uint32_t i = base + k * threads;
                if (i < end) store_staged(cell + uint64_t(i) * HIPCOMM_PACK_BYTES, results[k]);
            }
        }
    }
}

template <class T, class Op>
DEVICE void reduce_shard(const Launch& launch, uint32_t step) {
    const hipcommKernelArgs& args = launch.args;
    const Message send = message(args.send, args.bytes);
    const Message recv = message(args.recv, args.bytes);
    const Chunk shard = shard_of(chunk_of_step(launch, packs_of(args.bytes), step), args.rank, args.world);
    /* 1-byte types have 16 accumulators a pack: fewer packs at a time, or registers spill */
    [[maybe_unused]] constexpr uint32_t kLines = sizeof(T) == 1 ? 1 : 2;
    const uint32_t whole_send = whole_packs(send, shard.first, shard.packs);
    const uint32_t whole_recv = whole_packs(recv, shard.first, shard.packs);
    const uint32_t whole = whole_send < whole_recv ? whole_send : whole_recv;
    const char* own = send.base + shard.first * HIPCOMM_PACK_BYTES;
    char* result = recv.base + shard.first * HIPCOMM_PACK_BYTES;
    if constexpr (kOneThread && kChosenByType<Op>) {
        const Cells cells = cells_of(launch);
        reduce_run<T, Op>(
            args, uint64_t(whole) * HIPCOMM_PACK_BYTES, result,
            [&](uint32_t rank) -> const char* {
                return rank == args.rank ? own : cells.cell(args.rank, step, kContributions, rank);
            },
            [&](uint64_t offset, uint64_t bytes) {
                for (uint32_t peer = 0; peer < args.world; ++peer)
                    if (peer != args.rank)
                        __builtin_memcpy(cells.cell(peer, step, kResults, args.rank) + offset, result + offset, bytes);
            });
    } else {
        reduce_packs<T, Op, kLines, kRanksInFlight>(
            launch, step, 0, whole, [=](uint64_t i) { return load_pack(own + i * HIPCOMM_PACK_BYTES); },
            [=](uint64_t i, Pack pack) { store_pack(result + i * HIPCOMM_PACK_BYTES, pack); });
    }
    reduce_packs<T, Op, 1, 1>(
        launch, step, whole, shard.packs, [&](uint64_t i) { return load_message(send, shard.first + i); },
        [&](uint64_t i, Pack pack) { store_message(recv, shard.first + i, pack); });
}

DEVICE void collect_shards(const Launch& launch, uint32_t step) {
    const hipcommKernelArgs& args = launch.args;
    const Cells cells = cells_of(launch);
    unstage_shards(launch, message(args.recv, args.bytes), chunk_of_step(launch, packs_of(args.bytes), step),
                   args.rank, [&](uint32_t owner) { return cells.cell(args.rank, step, kResults, owner); });
}

template <class T, class Op>
DEVICE void all_reduce_pipelined(const hipcommKernelArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args, g);
    const uint32_t steps = steps_of_block(launch, packs_of(args.bytes));
    const Part pushers = part_of_stage(kPush, steps),
               reducers = part_of_stage(kReduce, steps),
               collectors = part_of_stage(kCollect, steps);
    in_turns(launch, steps, 3, [&](uint32_t turn) INLINE_LAMBDA {
        if (is_in(launch, pushers) && turn < steps) push_shards(new_phase_of(launch, pushers), turn);
        if (is_in(launch, reducers) && has_step(turn, kDelay, steps))
            reduce_shard<T, Op>(new_phase_of(launch, reducers), turn - kDelay);
        if (is_in(launch, collectors) && has_step(turn, 2 * kDelay, steps))
            collect_shards(new_phase_of(launch, collectors), turn - 2 * kDelay);
    });
    end_launch(launch);
}

HIPCOMM_REDUCTION_KERNELS(all_reduce_pipelined)
