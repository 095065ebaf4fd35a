// What can be chosen about the software GPU, all in the environment variable HIPCOMM_AMD_SOFTWARE: key=value, with
// commas between. docs/amd.md has the list.
#pragma once

#include <cstdint>

#include "target.h"

namespace hipcomm::amd {

struct Settings {
    const Target* target = nullptr;  // arch; null: there is no such target, or a setting that is not known
    int multiprocessors = 2;         // cus
    uint64_t seed = 0;               // seed; 0: in order, and every access happens at once
    int reciprocal = 0;              // reciprocal: -1, 0, 1: the side to which reciprocals are off
    bool has_probes = true;          // link=pcie: a peer's write does not invalidate what the owner has cached
    int64_t delayed = -1;            // delay: this access of every launch is late, and no other
};

// Read at the first call.
const Settings& settings();

}  // namespace hipcomm::amd
