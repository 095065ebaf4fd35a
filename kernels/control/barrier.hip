/* Barrier: everybody tells everybody that it has come. */
#include "../launch/epoch.h"
#include "../launch/signal.h"

enum Phase : uint32_t { kCame };

DEVICE void barrier(const hipcommKernelArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args, g);
    if (is_behind_failure(launch)) return end_launch(launch);
    signal_peers(launch, kCame, 1);
    wait_for_peers(launch, kCame, 1);
    end_launch(launch);
}

KERNEL(hipcomm_barrier, barrier, hipcommKernelArgs, HIPCOMM_MAX_THREADS)
