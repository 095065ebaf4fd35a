// What launches cost.
#include "counts.h"

#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "memory.h"

namespace hipcomm::amd {
namespace {

std::mutex mutex;
std::map<std::string, Counts>& by_kernel() {
    static auto& all = *new std::map<std::string, Counts>;  // never destroyed: ranks may end in any order
    return all;
}

}  // namespace

void Counts::add(const Access& access) {
    const unsigned lanes = unsigned(__builtin_popcountll(access.lanes));
    if (access.is_shared) {
        ++shared_operations;
        return;
    }
    switch (access.action) {
        case Action::kLoad: ++loads, load_bytes += lanes * access.bytes; break;
        case Action::kStore: ++stores, store_bytes += lanes * access.bytes; break;
        case Action::kAtomic: ++atomics; break;
        case Action::kCache: ++cache_operations; break;
    }
}

void Counts::add(const Counts& other) {
    launches += other.launches;
    waves += other.waves;
    instructions += other.instructions;
    loads += other.loads;
    stores += other.stores;
    atomics += other.atomics;
    cache_operations += other.cache_operations;
    load_bytes += other.load_bytes;
    store_bytes += other.store_bytes;
    remote_bytes += other.remote_bytes;
    remote_pieces += other.remote_pieces;
    shared_operations += other.shared_operations;
    scalar_words += other.scalar_words;
    sleeps += other.sleeps;
}

void record(const char* kernel, const Counts& counts) {
    const std::lock_guard<std::mutex> lock(mutex);
    by_kernel()[kernel].add(counts);
}

}  // namespace hipcomm::amd

// One line of JSON for each kernel that was launched; returns how many bytes all of them have. For tests.
extern "C" __attribute__((visibility("default"))) size_t hipcommAmdSoftwareCounts(char* out, size_t room) {
    using namespace hipcomm::amd;
    std::string text;
    const std::lock_guard<std::mutex> lock(mutex);
    for (const auto& [name, c] : by_kernel()) {
        const std::pair<const char*, uint64_t> values[] = {
            {"launches", c.launches},         {"waves", c.waves},
            {"instructions", c.instructions}, {"loads", c.loads},
            {"stores", c.stores},             {"atomics", c.atomics},
            {"load_bytes", c.load_bytes},     {"store_bytes", c.store_bytes},
            {"remote_bytes", c.remote_bytes}, {"remote_pieces", c.remote_pieces},
            {"lds", c.shared_operations},     {"cache_operations", c.cache_operations},
            {"scalar_words", c.scalar_words}, {"sleeps", c.sleeps},
        };
        text += "{\"kernel\": \"" + name + "\"";
        for (const auto& [key, value] : values)
            text += std::string(", \"") + key + "\": " + std::to_string(value);
        text += "}\n";
    }
    if (out != nullptr && room > text.size()) text.copy(out, text.size()), out[text.size()] = '\0';
    return text.size();
}
