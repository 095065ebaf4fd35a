/* Reducing a chunk of the message that this rank has in the caller's memory and every other rank in staging memory. */
#pragma once

#include "../numbers/reduce_packs.h"
#include "../numbers/reduce_run.h"
#include "../data/staging.h"

/* All threads. contribution_of(rank): where another rank's packs of the chunk are. The results go into this rank's
 * message, and for other receivers to result_of(rank), in staging memory. A pack of the message is written by the
 * thread that has read it, so calls may be in place. */
template <class T, class Op, class ContributionOf, class ResultOf>
DEVICE void reduce_chunk(const Launch& launch, const Chunk& chunk, const Receivers& receivers,
                         ContributionOf contribution_of, ResultOf result_of) {
    const hipcommKernelArgs& args = launch.args;
    const Geometry& g = launch.geometry;
    const Message send = message(args.send, args.bytes);
    const Message recv = message(args.recv, args.bytes);
    const uint32_t whole_send = whole_packs(send, chunk.first, chunk.packs);
    const uint32_t whole_recv = whole_packs(recv, chunk.first, chunk.packs);
    const uint32_t whole = whole_send < whole_recv ? whole_send : whole_recv;
    const char* own = send.base + chunk.first * HIPCOMM_PACK_BYTES;
    char* result = recv.base + chunk.first * HIPCOMM_PACK_BYTES;
    if constexpr (kOneThread && kChosenByType<Op>) {
        reduce_run<T, Op>(
            args, uint64_t(whole) * HIPCOMM_PACK_BYTES, receivers,
            [&](uint32_t rank) -> const char* { return rank == args.rank ? own : contribution_of(rank); },
            [&](uint32_t rank) { return rank == args.rank ? result : result_of(rank); });
    } else {
        reduce_packs<T, Op, kRanksInFlight, uint32_t>(
            args, {g.thread, whole, g.threads}, receivers,
            [&](uint32_t rank, uint32_t i) {
                const uint64_t at = uint64_t(i) * HIPCOMM_PACK_BYTES;
                return rank == args.rank ? load_pack(own + at) : load_staged(contribution_of(rank) + at);
            },
            [&](uint32_t rank, uint32_t i, Pack pack) {
                const uint64_t at = uint64_t(i) * HIPCOMM_PACK_BYTES;
                rank == args.rank ? store_pack(result + at, pack) : store_staged(result_of(rank) + at, pack);
            });
    }
    reduce_packs<T, Op, 1, uint32_t>(
        args, {whole + g.thread, chunk.packs, g.threads}, receivers,
        [&](uint32_t rank, uint32_t i) {
            return rank == args.rank ? load_message(send, chunk.first + i)
                                     : load_staged(contribution_of(rank) + uint64_t(i) * HIPCOMM_PACK_BYTES);
        },
        [&](uint32_t rank, uint32_t i, Pack pack) {
            if (rank == args.rank)
                store_message(recv, chunk.first + i, pack);
            else
                store_staged(result_of(rank) + uint64_t(i) * HIPCOMM_PACK_BYTES, pack);
        });
}
