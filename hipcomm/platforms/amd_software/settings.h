// What can be chosen about the software GPU, all in the environment variable HIPCOMM_AMD_SOFTWARE: key=value,
// with commas between. docs/amd.md has the list.
#pragma once

#include <cstdint>

#include "target.h"

namespace hipcomm::amd {

struct Settings {
    const Target* target = nullptr;  // arch; null: there is no such target, or a setting that is not known
    int multiprocessors = 2;         // cus
    uint64_t seed = 0;               // seed; 0: in order, and every access happens at once
    int reciprocal = 0;              // reciprocal: -1, 0, 1: the side to which reciprocals are off
    bool has_probes = true;  // link=pcie: a peer's write does not invalidate what the owner has cached
    // delay: this vector memory access of every launch, or of all that run together, is late, and no other;
    // "each": of the first launch the first, of the second one the second, ...
    int64_t delayed = -1;
    bool delays_each = false;
    unsigned together =
        1;  // together: devices, ranks of this process, whose launches one thread runs in turn
    unsigned batch = 1;              // batch: launches of each that it runs before all have to be over

    bool is_systematic() const { return delayed >= 0 || delays_each; }
    bool is_weak() const { return seed != 0 || is_systematic(); }
};

// Read at the first call.
const Settings& settings();

}  // namespace hipcomm::amd
