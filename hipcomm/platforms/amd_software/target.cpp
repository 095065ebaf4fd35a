// The architectures that are interpreted.
#include "target.h"

#include <cstring>

namespace hipcomm::amd {
namespace {

constexpr MemoryRules kRulesGfx90a = {false, true, false};
constexpr MemoryRules kRulesGfx942 = {true, true, false};
constexpr MemoryRules kRulesGfx12 = {true, false, true};

constexpr Target kTargets[] = {
    {"gfx90a", 0x3f, Family::kGfx9, kGfx90a, 64, 512, 8, 124, kNoRegister, 65536, 9, 0, 10, {0, 1, 1, 0},
     kRulesGfx90a},
    {"gfx942", 0x4c, Family::kGfx9, kGfx942, 64, 512, 8, 124, kNoRegister, 65536, 9, 4, 2, {0, 1, 1, 0},
     kRulesGfx942},
    {"gfx950", 0x4f, Family::kGfx9, kGfx950, 64, 512, 8, 124, kNoRegister, 163840, 9, 5, 0, {0, 1, 1, 0},
     kRulesGfx942},
    {"gfx1201", 0x4e, Family::kGfx12, kGfx1201, 32, 256, 24, 125, 124, 65536, 12, 0, 1, {0, 1, 2, 3},
     kRulesGfx12},
};

}  // namespace

const Target* find_target(uint32_t machine) {
    for (const Target& target : kTargets) {
        if (target.machine == machine) return &target;
    }
    return nullptr;
}

const Target* find_target(const char* name) {
    for (const Target& target : kTargets) {
        if (std::strcmp(target.name, name) == 0) return &target;
    }
    return nullptr;
}

const char* target_names() { return "gfx90a, gfx942, gfx950, gfx1201"; }

}  // namespace hipcomm::amd
