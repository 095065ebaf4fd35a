/* All-reduce, staged: every rank leaves its message in its own staging memory, and everybody reduces all of it
 * from there. One hand-over, where the pipelined kernel has two; but (n - 1) bytes go from rank to rank per byte
 * of the message, and they are read, which over links is slower than writing. For machines where ranks wait for
 * each other longer than for the data: small messages where all ranks have one memory (the CPU).
 *
 * Block b has its own chunk, shared only with block b of the other ranks. Nobody overwrites what a slower peer
 * still reads: staging memory exists twice (hipcomm/abi/slabs.h). A pack of the result is written by the thread that
 * has read this rank's contribution to it, and after the block has staged its chunk, so in-place calls are safe.
 */
#include "../launch/epoch.h"
#include "../numbers/reduction_kernels.h"
#include "reduce_staged.h"

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
DEVICE void all_reduce_staged(const hipcommKernelArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args, g);
    if (is_behind_failure(launch)) return end_launch(launch);
    const Chunk chunk = chunk_of_block(launch);
    stage(launch, staged_at(launch, args.rank, chunk.first), message(args.send, args.bytes), chunk);
    signal_peers(launch, kStaged, 1);
    if (wait_for_peers(launch, kStaged, 1)) {
        const Launch again = new_phase(launch);
        const Chunk reduced = chunk_of_block(again);
        reduce_chunk<T, Op>(
            again, reduced, {again.args.rank, 1},
            [&](uint32_t rank) -> const char* { return staged_at(again, rank, reduced.first); },
            [](uint32_t) -> char* { return nullptr; }); /* nobody else receives */
    }
    end_launch(launch);
}

REDUCTION_KERNELS(all_reduce_staged, hipcommKernelArgs, HIPCOMM_MAX_THREADS)
