/* Exchange: every rank sends a segment to every rank, each of any length. This is all_to_all with
 * counts per peer; and the small messages of all_to_all, gather, scatter, all_gather with unequal counts and
 * along any dimension, whose large ones are exchange_pipelined.hip's.
 *
 * Both sides of a pair know how long its segment is, and nobody else needs to: short segments go as
 * flag-in-data lines (one one-way latency), longer ones through the staging slab in chunks. A rank whose
 * pairs are all of one kind skips the loops of the other.
 *
 * Where nothing is sent, a signal of no steps is: no rank may leave an epoch before it has heard from
 * all (hipcomm/abi/slabs.h).
 */
#include "../data/own_segment.h"
#include "../launch/epoch.h"
#include "../launch/signal.h"

constexpr uint32_t kSlots = HIPCOMM_RING_SLOTS; /* as the plan has them */
DEVICE SegmentCells cells_of(const Launch& launch) { return {launch, kSlots, launch.args.world}; }

enum Phase : uint32_t { kPushed, kCollected };

/* Packs of a segment that go as lines, in this launch; and those that go through staging memory. */
DEVICE uint32_t packs_in_lines(const Launch& launch, uint64_t bytes) {
    return bytes <= segment_args(launch).line_bytes ? packs_of_launch(launch, bytes) : 0;
}
DEVICE uint64_t staged_packs(const Launch& launch, uint64_t bytes) {
    return bytes <= segment_args(launch).line_bytes ? 0 : packs_of(bytes);
}

/* Whether this block has something to do for a segment in step `step`. */
DEVICE bool has_step(const Launch& launch, uint64_t bytes, uint32_t step) {
    return chunk_of_segment(launch, staged_packs(launch, bytes), step).packs != 0;
}

DEVICE uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* ---- lines -----------------------------------------------------------------------------------------
 * Threads are numbered by (peer, pack). Line layout at the receiver: [sender][pack]. */

DEVICE void push_lines(const Launch& whole_launch, uint32_t most) {
    const Launch launch = new_phase(whole_launch);
    const Geometry& g = launch.geometry;
    const uint32_t world = launch.args.world, stride = g.blocks * g.threads;
    for (uint32_t i = g.block * g.threads + g.thread; i < most * world; i += stride) {
        const uint32_t peer = i / most;
        const uint32_t pack = i % most;
        const Message send = send_segment(launch, peer);
        if (peer == launch.args.rank || pack >= packs_in_lines(launch, send.bytes)) continue;
        send_line(launch, peer, segment_line<1>(launch, launch.args.rank, pack),
                  load_message(send, segment_args(launch).first_pack + pack));
    }
}

/* Tell those that get nothing in this launch that this rank has come. */
DEVICE void signal_idle_pairs(const Launch& whole_launch) {
    const Launch launch = new_phase(whole_launch);
    const Geometry& g = launch.geometry;
    if (g.block != 0) return;
    for (uint32_t peer = g.thread; peer < launch.args.world; peer += g.threads) {
        const uint64_t bytes = segment_args(launch).segments[peer].send_bytes;
        if (peer != launch.args.rank && packs_in_lines(launch, bytes) == 0 && staged_packs(launch, bytes) == 0)
            signal_one(launch, peer, kPushed, 0);
    }
}

DEVICE void wait_for_idle_pairs(const Launch& whole_launch) {
    const Launch launch = new_phase(whole_launch);
    const Geometry& g = launch.geometry;
    if (g.block != 0) return;
    for (uint32_t peer = g.thread; peer < launch.args.world; peer += g.threads) {
        const uint64_t bytes = segment_args(launch).segments[peer].recv_bytes;
        if (peer != launch.args.rank && packs_in_lines(launch, bytes) == 0 && staged_packs(launch, bytes) == 0)
            wait_for_signal(launch, peer, kPushed, 0);
    }
}

DEVICE void collect_lines(const Launch& whole_launch, uint32_t most) {
    const Launch launch = new_phase(whole_launch);
    const Geometry& g = launch.geometry;
    const uint32_t world = launch.args.world, stride = g.blocks * g.threads;
    for (uint32_t i = g.block * g.threads + g.thread; i < most * world; i += stride) {
        const uint32_t sender = i / most;
        const uint32_t pack = i % most;
        const Message recv = recv_segment(launch, sender);
        if (pack >= packs_in_lines(launch, recv.bytes)) continue;
        const uint64_t in_segment = segment_args(launch).first_pack + pack;
        const Pack arrived = sender == launch.args.rank
                                 ? load_message(send_segment(launch, sender), in_segment)
                                 : receive_line(launch, sender, segment_line<1>(launch, sender, pack));
        if (block_failed(launch)) break;
        store_rows(in_rows(launch, recv), in_segment, arrived);
    }
}

/* ---- staging ---------------------------------------------------------------------------------------
 * push(s) overwrites step s - kSlots, so it waits until the receiver says that it has collected it. All
 * ranks turn through push(s), collect(s - 1): the rank that is furthest behind never waits for one that
 * waits for it. */

DEVICE bool wait_for_room(const Launch& whole_launch, uint32_t step) {
    const Launch launch = new_phase(whole_launch);
    const Geometry& g = launch.geometry;
    for (uint32_t peer = g.thread; peer < launch.args.world; peer += g.threads)
        if (peer != launch.args.rank && has_step(launch, send_segment(launch, peer).bytes, step))
            wait_for_signal(launch, peer, kCollected, step + 1 - kSlots);
    block_barrier();
    return !block_failed(launch);
}

DEVICE void push_chunks(const Launch& whole_launch, uint32_t step) {
    const Launch launch = new_phase(whole_launch);
    const Geometry& g = launch.geometry;
    const uint32_t rank = launch.args.rank, world = launch.args.world;
    NO_UNROLL
    for (uint32_t i = 1; i < world; ++i) { /* every rank begins with another peer: all links are busy */
        const uint32_t peer = (rank + i) % world;
        const Message send = send_segment(launch, peer);
        stage(launch, cells_of(launch).cell(peer, step, rank), send,
              chunk_of_segment(launch, staged_packs(launch, send.bytes), step));
    }
    block_barrier(); /* the stores of all threads come before the releases */
    for (uint32_t peer = g.thread; peer < world; peer += g.threads)
        if (peer != rank && has_step(launch, send_segment(launch, peer).bytes, step))
            signal_one(launch, peer, kPushed, step + 1);
}

DEVICE void copy_own_chunk(const Launch& whole_launch, uint32_t step) {
    const Launch launch = new_phase(whole_launch);
    const uint64_t bytes = send_segment(launch, launch.args.rank).bytes;
    copy_own_segment(launch, chunk_of_segment(launch, staged_packs(launch, bytes), step));
}

DEVICE bool collect_chunks(const Launch& whole_launch, uint32_t step) {
    const Launch launch = new_phase(whole_launch);
    const Geometry& g = launch.geometry;
    const uint32_t rank = launch.args.rank, world = launch.args.world;
    for (uint32_t peer = g.thread; peer < world; peer += g.threads)
        if (peer != rank && has_step(launch, recv_segment(launch, peer).bytes, step))
            wait_for_signal(launch, peer, kPushed, step + 1);
    block_barrier(); /* the acquires of a few threads come before the loads of all */
    if (block_failed(launch)) return false;
    NO_UNROLL
    for (uint32_t i = 1; i < world; ++i) {
        const uint32_t sender = (rank + i) % world;
        const Message recv = recv_segment(launch, sender);
        unstage_rows(launch, in_rows(launch, recv),
                     chunk_of_segment(launch, staged_packs(launch, recv.bytes), step),
                     cells_of(launch).cell(rank, step, sender));
    }
    block_barrier(); /* the loads of all threads come before the cells are free */
    for (uint32_t peer = g.thread; peer < world; peer += g.threads)
        if (peer != rank && has_step(launch, recv_segment(launch, peer).bytes, step))
            signal_one(launch, peer, kCollected, step + 1);
    return true;
}

/* ---- the kernel ------------------------------------------------------------------------------------*/

/* The longest segments of this rank, to and from any one rank. */
struct Longest {
    uint32_t sent_lines, received_lines; /* packs that go as lines */
    uint64_t staged;                     /* packs that do not */
};

DEVICE Longest longest_segments(const Launch& whole_launch) {
    const Launch launch = new_phase(whole_launch);
    Longest most{};
    NO_UNROLL
    for (uint32_t peer = 0; peer < launch.args.world; ++peer) {
        const hipcommSegment& segment = segment_args(launch).segments[peer];
        most.sent_lines = uint32_t(larger(most.sent_lines, packs_in_lines(launch, segment.send_bytes)));
        most.received_lines = uint32_t(larger(most.received_lines, packs_in_lines(launch, segment.recv_bytes)));
        most.staged = larger(most.staged, staged_packs(launch, larger(segment.send_bytes, segment.recv_bytes)));
    }
    return most;
}

/* False if the block has failed. */
DEVICE bool exchange_staged(const Launch& launch, uint64_t packs) {
    if (packs == 0) return true; /* a plan for lines alone has no chunks */
    const uint32_t steps = steps_of_block(launch, packs);
    NO_UNROLL
    for (uint32_t turn = 0; turn < steps + 1; ++turn) {
        if (turn < steps) {
            if (turn >= kSlots && !wait_for_room(launch, turn)) return false;
            push_chunks(launch, turn);
            copy_own_chunk(launch, turn);
        }
        if (turn >= 1 && !collect_chunks(launch, turn - 1)) return false;
    }
    return true;
}

DEVICE void exchange(const hipcommSegmentArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args.common, g);
    if (is_behind_failure(launch)) return end_launch(launch);
    const Longest most = longest_segments(launch);
    push_lines(launch, most.sent_lines);
    signal_idle_pairs(launch);
    if (exchange_staged(launch, most.staged)) {
        collect_lines(launch, most.received_lines);
        wait_for_idle_pairs(launch);
    }
    end_launch(launch);
}

KERNEL(hipcomm_exchange, exchange, hipcommSegmentArgs, HIPCOMM_MAX_THREADS)
