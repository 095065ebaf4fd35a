// What launches cost.
#include "counts.h"

#include <cstdio>
#include <map>
#include <mutex>
#include <string>

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
        char line[512];
        std::snprintf(
            line, sizeof line,
            "{\"kernel\": \"%s\", \"launches\": %llu, \"waves\": %llu, \"instructions\": %llu, \"loads\": "
            "%llu, "
            "\"stores\": %llu, \"atomics\": %llu, \"cache_operations\": %llu, \"load_bytes\": %llu, "
            "\"store_bytes\": %llu, \"remote_bytes\": %llu, \"lds\": %llu, \"scalar_words\": %llu, "
            "\"sleeps\": %llu}\n",
            name.c_str(), (unsigned long long)c.launches, (unsigned long long)c.waves,
            (unsigned long long)c.instructions, (unsigned long long)c.loads, (unsigned long long)c.stores,
            (unsigned long long)c.atomics, (unsigned long long)c.cache_operations,
            (unsigned long long)c.load_bytes, (unsigned long long)c.store_bytes,
            (unsigned long long)c.remote_bytes, (unsigned long long)c.shared_operations,
            (unsigned long long)c.scalar_words, (unsigned long long)c.sleeps);
        text += line;
    }
    if (out != nullptr && room > text.size()) text.copy(out, text.size()), out[text.size()] = '\0';
    return text.size();
}
