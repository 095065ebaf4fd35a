/* All-reduce, staged: every rank leaves its message in its own staging memory, and everybody reduces all of it
 * from there. One hand-over, where the pipelined kernel has two; but (n - 1) bytes go from rank to rank per byte
 * of the message, and they are read, which over links is slower than to write. For machines where ranks wait for
 * each other longer than for the data: small messages where all ranks have one memory (the CPU).
 *
 * Block b has a chunk of its own, alone with block b of the other ranks. Nobody overwrites what a slower peer
 * still reads: staging memory exists twice (kernels/abi.h). A pack of the result is written by the thread that
 * has read this rank's contribution to it, and after the block has staged its chunk, so in-place calls are safe.
 */
#include "common/epoch.h"
#include "common/reduce_packs.h"
#include "common/reduce_run.h"
#include "common/staging.h"

enum Phase : uint32_t { kStaged };

/* This block's part of the message; none, if the message is shorter than this launch could carry. */
DEVICE Chunk chunk_of_block(const Launch& launch) {
    const hipcommKernelArgs& args = launch.args;
    const uint64_t packs = packs_of(args.bytes), first = uint64_t(launch.geometry.block) * args.chunk_packs;
    return first < packs ? chunk_of_step(launch, packs, 0) : Chunk{0, 0};
}

/* Where `rank` leaves pack `first` of its message and what follows: at the same place in its staging memory. */
DEVICE char* staged_at(const Launch& launch, uint32_t rank, uint64_t first) {
    const hipcommKernelArgs& args = launch.args;
    return args.staging[rank] + launch.parity() * args.staging_bytes + first * HIPCOMM_PACK_BYTES;
}

template <class T, class Op>
DEVICE void reduce_chunk(const Launch& whole_launch) {
    const Launch launch = new_phase(whole_launch);
    const hipcommKernelArgs& args = launch.args;
    const Geometry& g = launch.geometry;
    const Chunk chunk = chunk_of_block(launch);
    const Message send = message(args.send, args.bytes);
    const Message recv = message(args.recv, args.bytes);
    const uint32_t whole = whole_packs(recv, chunk.first, whole_packs(send, chunk.first, chunk.packs));
    const char* own = send.base + chunk.first * HIPCOMM_PACK_BYTES;
    char* result = recv.base + chunk.first * HIPCOMM_PACK_BYTES;
    const auto contribution = [&](uint32_t rank) -> const char* { return staged_at(launch, rank, chunk.first); };
    const Receivers this_rank{args.rank, 1};
    if constexpr (kOneThread && kChosenByType<Op>) {
        reduce_run<T, Op>(
            args, uint64_t(whole) * HIPCOMM_PACK_BYTES, this_rank,
            [&](uint32_t rank) { return rank == args.rank ? own : contribution(rank); },
            [&](uint32_t) { return result; });
    } else {
        reduce_packs<T, Op, kLinesOf<T>, kRanksInFlight, uint32_t>(
            args, {g.thread, whole, g.threads, g.threads * kLinesOf<T>}, this_rank,
            [&](uint32_t rank, uint32_t i) {
                const uint64_t at = uint64_t(i) * HIPCOMM_PACK_BYTES;
                return rank == args.rank ? load_pack(own + at) : load_staged(contribution(rank) + at);
            },
            [&](uint32_t, uint32_t i, Pack pack) { store_pack(result + uint64_t(i) * HIPCOMM_PACK_BYTES, pack); });
    }
    reduce_packs<T, Op, 1, 1, uint32_t>(
        args, {whole + g.thread, chunk.packs, g.threads, g.threads}, this_rank,
        [&](uint32_t rank, uint32_t i) {
            return rank == args.rank ? load_message(send, chunk.first + i)
                                     : load_staged(contribution(rank) + uint64_t(i) * HIPCOMM_PACK_BYTES);
        },
        [&](uint32_t, uint32_t i, Pack pack) { store_message(recv, chunk.first + i, pack); });
}

template <class T, class Op>
DEVICE void all_reduce_staged(const hipcommKernelArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args, g);
    if (is_behind_failure(launch)) return end_launch(launch);
    const Chunk chunk = chunk_of_block(launch);
    stage(launch, staged_at(launch, args.rank, chunk.first), message(args.send, args.bytes), chunk);
    signal_peers(launch, kStaged, 1);
    if (wait_for_peers(launch, kStaged, 1)) reduce_chunk<T, Op>(launch);
    end_launch(launch);
}

HIPCOMM_REDUCTION_KERNELS(all_reduce_staged)
