/* All-gather, direct: every rank writes its message into all ranks' results, between two barriers. The
 * results are registered memory; nothing is copied out. */
#include "../launch/epoch.h"
#include "put.h"

DEVICE void all_gather_direct(const hipcommKernelArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args, g);
    if (!enter_direct(launch)) return end_launch(launch);
    const Message send = message(args.send, args.bytes);
    /* every rank begins with another peer, so that all links are busy */
    NO_UNROLL
    for (uint32_t i = 1; i <= args.world; ++i) {
        const uint32_t peer = (args.rank + i) % args.world;
        char* const to = rank_buffers(launch)->recv(peer) + args.rank * args.recv_stride;
        if (to != args.send) put_share(launch, message(to, args.bytes), send);
    }
    leave_direct(launch);
    end_launch(launch);
}

KERNEL(hipcomm_all_gather_direct, all_gather_direct, hipcommKernelArgs, HIPCOMM_MAX_THREADS)
