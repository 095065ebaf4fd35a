/* Reduce-scatter and reduce, pipelined through the staging slab: for messages of any length. Rank p owns
 * segment p.
 *
 *   push     copy my chunk of segment p into owner p's staging (contributions), signal
 *   reduce   wait for all contributions, reduce my chunk; reduce_scatter: write it to my result;
 *            reduce: write it into the root's staging (results), signal
 *   collect  reduce, on the root: wait for all results, copy them into the result
 * Reduce goes this way because each rank's links then carry 2 (n - 1)/n per byte of the message at most,
 * where sending everything to the root would put n - 1 on the root's.
 *
 * Segments may differ in length (a reduce cuts its message into as equal ones as it can); all ranks make
 * the steps of the longest, so that every step hears from everybody.
 *
 * Why a ring of four slots is enough, with push(s), reduce(s - 1), collect(s - 2) in one turn: push(s)
 * overwrites contributions of step s - 4; reduce(s - 2) heard that everybody had pushed s - 2, and they
 * did so after their reduce(s - 4). reduce(s) overwrites results of step s - 4, and the root's push(s),
 * which it waited for, came after the root's collect(s - 3).
 */
#include "common/epoch.h"
#include "common/reduce.h"
#include "common/segments.h"
#include "common/signal.h"

constexpr uint32_t kSlots = 4; /* of the ring */
enum Phase : uint32_t { kPushed, kReduced };

/* Contributions are cells 0 .. world - 1 of a slot; on a reduce, results are the world cells after them. */
using Cells = SegmentCells;

/* Of a reduce; a reduce_scatter has none. */
DEVICE bool has_root(const hipcommKernelArgs& args) { return args.root < args.world; }

DEVICE void push_contributions(const Launch& launch, const Cells& cells, const hipcommSegmentArgs& args,
                               uint32_t step) {
    const uint32_t rank = launch.args.rank, world = launch.args.world;
    /* every rank, and every block, begins with another peer, so that all links are busy */
    NO_UNROLL
    for (uint32_t i = 0; i < world - 1; ++i) {
        const uint32_t owner = (rank + 1 + (i + launch.geometry.block) % (world - 1)) % world;
        const Message send = send_segment(args, owner);
        stage_rows(launch, cells.cell(owner, step, rank), in_rows(args, send),
                   chunk_of_segment(launch, packs_of(send.bytes), step));
    }
}

/* Reduce packs begin .. end - 1 of the chunk, kInFlight per thread at a time. */
template <class T, class Op, uint32_t kInFlight, class LoadOwn, class Store>
DEVICE void reduce_packs(const Launch& launch, const Cells& cells, uint32_t step, uint32_t begin,
                         uint32_t end, LoadOwn load_own, Store store) {
    const hipcommKernelArgs& args = launch.args;
    const uint32_t threads = launch.geometry.threads;
    for (uint32_t base = begin + launch.geometry.thread; base < end; base += threads * kInFlight) {
        Reduction<T, Op> reduction[kInFlight];
        const auto load_contributions = [&](uint32_t rank, Pack* packs) {
            const char* cell = cells.cell(args.rank, step, rank);
            UNROLL(8)
            for (uint32_t k = 0; k < kInFlight; ++k) {
                const uint32_t i = base + k * threads;
                if (i >= end) continue;
                packs[k] = rank == args.rank ? load_own(i) : load_staged(cell + uint64_t(i) * HIPCOMM_PACK_BYTES);
            }
        };
        Pack packs[kInFlight]{};
        load_contributions(0, packs);
        UNROLL(8)
        for (uint32_t k = 0; k < kInFlight; ++k) reduction[k].start(packs[k], args);
        NO_UNROLL
        for (uint32_t rank = 1; rank < args.world; ++rank) {
            load_contributions(rank, packs);
            UNROLL(8)
            for (uint32_t k = 0; k < kInFlight; ++k) reduction[k].add(packs[k], args);
        }
        UNROLL(8)
        for (uint32_t k = 0; k < kInFlight; ++k)
            if (base + k * threads < end) store(base + k * threads, reduction[k].finish(args));
    }
}

/* Reduce my chunk. Its result goes to `staged`, if that is given, else to the packs of recv. */
template <class T, class Op>
DEVICE void reduce_chunk(const Launch& launch, const Cells& cells, const Rows& own, const Message& recv,
                         char* staged, const Chunk& chunk, uint32_t step) {
    /* 1-byte types have 16 accumulators a pack: fewer packs at a time, or registers spill */
    constexpr uint32_t kInFlight = sizeof(T) == 1 && kPacksInFlight > 1 ? kPacksInFlight / 2 : kPacksInFlight;
    const bool recv_whole = staged != nullptr || recv.whole_packs;
    uint32_t whole = 0;
    if (own.whole_packs && recv_whole) {
        const Message whole_message{own.all.base, own.all.bytes, true};
        whole = whole_packs(whole_message, chunk.first, chunk.packs);
    }
    reduce_packs<T, Op, kInFlight>(
        launch, cells, step, 0, whole,
        [&](uint64_t i) { return load_pack(address_in_rows(own, (chunk.first + i) * HIPCOMM_PACK_BYTES)); },
        [&](uint64_t i, Pack pack) {
            if (staged != nullptr)
                store_staged(staged + i * HIPCOMM_PACK_BYTES, pack);
            else
                store_pack(recv.base + (chunk.first + i) * HIPCOMM_PACK_BYTES, pack);
        });
    reduce_packs<T, Op, 1>(
        launch, cells, step, whole, chunk.packs, [&](uint64_t i) { return load_rows(own, chunk.first + i); },
        [&](uint64_t i, Pack pack) {
            if (staged != nullptr)
                store_staged(staged + i * HIPCOMM_PACK_BYTES, pack);
            else
                store_message(recv, chunk.first + i, pack);
        });
}

DEVICE void collect_results(const Launch& launch, const Cells& cells, const hipcommSegmentArgs& args,
                            uint32_t step) {
    const uint32_t rank = launch.args.rank, world = launch.args.world;
    NO_UNROLL
    for (uint32_t i = 1; i < world; ++i) {
        const uint32_t owner = (rank + i) % world;
        const Message recv = recv_segment(args, owner);
        unstage(launch, recv, chunk_of_segment(launch, packs_of(recv.bytes), step),
                cells.cell(rank, step, world + owner));
    }
}

template <class T, class Op>
DEVICE void reduce_pipelined(const hipcommSegmentArgs& segment_args, const Geometry& g) {
    const hipcommKernelArgs& args = segment_args.common;
    const Launch launch = begin_launch(args, g);
    const uint32_t steps = steps_of_block(launch, segment_args.most_packs);
    const Cells cells{launch, kSlots, has_root(args) ? 2 * args.world : args.world};
    const Message own_message = send_segment(segment_args, args.rank);
    const Rows own = in_rows(segment_args, own_message);
    const uint64_t own_packs = packs_of(own_message.bytes);
    const bool is_root = args.rank == args.root;
    const Message recv = is_root ? recv_segment(segment_args, args.rank) : message(args.recv, own_message.bytes);

    for (uint32_t turn = 0; turn < steps + 2; ++turn) {
        if (turn < steps) {
            push_contributions(launch, cells, segment_args, turn);
            signal_peers(launch, kPushed, turn + 1);
        }
        if (turn >= 1 && turn - 1 < steps) {
            const uint32_t step = turn - 1;
            if (!wait_for_peers(launch, kPushed, step + 1)) break;
            char* staged = has_root(args) && !is_root ? cells.cell(args.root, step, args.world + args.rank)
                                                      : nullptr;
            reduce_chunk<T, Op>(launch, cells, own, recv, staged, chunk_of_segment(launch, own_packs, step), step);
            if (staged != nullptr) {
                block_barrier(); /* the stores of all threads come before the release */
                if (g.thread == 0) signal_one(launch, args.root, kReduced, step + 1);
            }
        }
        if (turn >= 2 && is_root) {
            const uint32_t step = turn - 2;
            if (!wait_for_peers(launch, kReduced, step + 1)) break;
            collect_results(launch, cells, segment_args, step);
        }
    }
    end_launch(launch);
}

HIPCOMM_REDUCTION_KERNELS_WITH(reduce_pipelined, hipcommSegmentArgs)
