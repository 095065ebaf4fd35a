/* All-gather, flag-in-data: every rank sends its message to every peer as lines. One one-way latency.
 *
 * Work is cut into tiles of 2^tile_shift lines; a block takes every blocks-th tile. Within a tile the
 * threads are numbered by (peer, line). Line layout at the receiver: [sender][line].
 */
#include "../launch/epoch.h"
#include "line_packs.h"

template <uint32_t kPacks>
DEVICE void all_gather_one_shot(const hipcommKernelArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args, g);
    if (is_behind_failure(launch)) return end_launch(launch);
    const Message send = message(args.send, args.bytes);
    const uint32_t packs = uint32_t(packs_of(args.bytes));
    const uint32_t lines = lines_of<kPacks>(packs);
    const uint32_t tile_lines = 1u << args.tile_shift;
    const uint32_t tiles = (lines + tile_lines - 1) >> args.tile_shift;
    const auto load_own = [&](uint32_t line) {
        return load_packs<kPacks>(packs, line, [&](uint32_t pack) { return load_message(send, pack); });
    };

    for (uint32_t tile = g.block; tile < tiles; tile += g.blocks) {
        for (uint32_t i = g.thread; i < tile_lines * args.world; i += g.threads) {
            const uint32_t peer = i >> args.tile_shift;
            const uint32_t line = (tile << args.tile_shift) + (i & (tile_lines - 1));
            if (peer == args.rank || line >= lines) continue;
            send_line(launch, peer, uint64_t(args.rank) * lines + line, load_own(line));
        }
    }
    for (uint32_t tile = g.block; tile < tiles; tile += g.blocks) {
        for (uint32_t i = g.thread; i < tile_lines * args.world; i += g.threads) {
            const uint32_t sender = i >> args.tile_shift;
            const uint32_t line = (tile << args.tile_shift) + (i & (tile_lines - 1));
            if (line >= lines) continue;
            const Message recv = message(static_cast<char*>(args.recv) + sender * args.recv_stride, args.bytes);
            const Line<kPacks> arrived =
                sender == args.rank ? load_own(line)
                                    : receive_packs<kPacks>(launch, sender, uint64_t(sender) * lines + line);
            if (block_failed(launch)) break;
            store_packs<kPacks>(packs, line, arrived, [&](uint32_t pack, Pack p) { store_message(recv, pack, p); });
        }
    }
    end_launch(launch);
}

KERNEL(hipcomm_all_gather_one_shot, all_gather_one_shot<1>, hipcommKernelArgs, HIPCOMM_MAX_THREADS)

#ifdef HAS_WIDE_LINES
KERNEL(hipcomm_all_gather_one_shot_wide, all_gather_one_shot<HIPCOMM_WIDE_LINE_PACKS>, hipcommKernelArgs, HIPCOMM_MAX_THREADS)
#endif
