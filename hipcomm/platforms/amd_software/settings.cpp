// The software GPU's settings.
#include "settings.h"

#include <cstdlib>
#include <string>

#include "numbers.h"

namespace hipcomm::amd {
namespace {

// False: there is no such setting.
bool apply(const std::string& key, const std::string& value, Settings& all) {
    const char* const text = value.c_str();
    if (key == "arch") all.target = find_target(text);
    else if (key == "cus") all.multiprocessors = std::clamp(std::atoi(text), 1, 1024);
    else if (key == "seed") all.seed = std::strtoull(text, nullptr, 0);
    else if (key == "reciprocal") all.reciprocal = std::atoi(text);
    else if (key == "link" && value == "pcie") all.has_probes = false;
    else if (key == "delay" && value == "each") all.delays_each = true;
    else if (key == "delay") all.delayed = std::atoll(text);
    else if (key == "together") all.together = unsigned(std::clamp(std::atoi(text), 1, 64));
    else if (key == "batch") all.batch = unsigned(std::clamp(std::atoi(text), 1, 1000));
    else return false;
    return true;
}

Settings read() {
    Settings all;
    all.target = find_target("gfx942");
    const char* const variable = std::getenv("HIPCOMM_AMD_SOFTWARE");
    std::string rest = variable != nullptr ? variable : "";
    while (!rest.empty()) {
        const std::string item = rest.substr(0, rest.find(','));
        rest = item.size() == rest.size() ? "" : rest.substr(item.size() + 1);
        const size_t equals = item.find('=');
        if (equals == std::string::npos || !apply(item.substr(0, equals), item.substr(equals + 1), all)) {
            all.target = nullptr;
            break;
        }
    }
    return all;
}

}  // namespace

const Settings& settings() {
    static const Settings all = read();
    return all;
}

int reciprocal_error() { return settings().reciprocal; }

f32 perturbed(f32 x) {
    const int side = reciprocal_error();
    if (side == 0 || !std::isfinite(x) || x == 0) return x;
    return std::nextafter(
        x, side > 0 ? std::numeric_limits<f32>::infinity() : -std::numeric_limits<f32>::infinity());
}

f32 reciprocal(f32 x) {
    const f32 nearest = 1.0f / x;
    const int side = reciprocal_error();
    if (side == 0 || !std::isfinite(nearest) || std::isinf(x)) return nearest;
    const f64 missing = std::fma(-f64(nearest), f64(x), 1.0) / x;  // the true value less the nearest one
    const f32 infinity = std::numeric_limits<f32>::infinity();
    if (side > 0) return missing > 0 ? std::nextafter(nearest, infinity) : nearest;
    return missing < 0 ? std::nextafter(nearest, -infinity) : nearest;
}

// The hardware's float64 reciprocal has about 28 good bits.
f64 coarse(f64 x) {
    if (!std::isfinite(x) || x == 0) return x;
    return bit_cast<f64>(bits_of(x) & ~0xffffffull);
}

}  // namespace hipcomm::amd
