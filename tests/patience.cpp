/* How long waits on the CPU spin (kernels/arch/cpu.h), with a scheduler and a clock that the test moves.
 * Prints the patience after waits in vain, each of which is `spins` turns: "<where the core goes> <patience>". */
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

static uint64_t nanoseconds, yield_takes;

static int yield_on_test() {
    nanoseconds += yield_takes;
    return 0;
}
static int read_test_clock(int, timespec* now) {
    now->tv_sec = time_t(nanoseconds / 1000000000u);
    now->tv_nsec = long(nanoseconds % 1000000000u);
    return 0;
}
#define sched_yield yield_on_test
#define clock_gettime(clock, now) read_test_clock(clock, now)
#include "../kernels/arch/cpu.h"

static uint32_t after_waits(uint64_t yield_nanoseconds, uint32_t waits, uint32_t spins) {
    yield_takes = yield_nanoseconds;
    for (uint32_t wait = 0; wait < waits; ++wait)
        for (uint32_t spin = 1; spin <= spins; ++spin) spin_pause(spin);
    return patience;
}

int main() {
    printf("nobody %u\n", after_waits(400, 100, 200));
    printf("somebody %u\n", after_waits(2500, 100, 200));
    printf("shared, peers in time %u\n", after_waits(2500, 200, 1));
}
