// The caches between a GPU's waves and memory, as weak as the architecture allows: docs/amd.md, section 8.
#pragma once

#include <map>
#include <mutex>

#include "device_memory.h"

namespace hipcomm::amd {

constexpr unsigned kLineBytes = 128;

class Caches {
public:
    void load(u32 block, u64 address, unsigned bytes, Scope scope, Page page, u8* out);
    void store(u32 block, u64 address, unsigned bytes, Scope scope, Page page, const u8* data);
    u64 atomic(u32 block, u64 address, unsigned bytes, u8 kind, u64 value, u64 comparand);
    u32 scalar_load(u64 address, Page page);
    void operate(u32 block, u8 kind, Scope scope);

    // A kernel begins with an acquire and ends with a release.
    void begin(const Target& target, u64 seed);
    void end();

private:
    struct Line {
        Page page;
        u8 bytes[kLineBytes];
        bool dirty[kLineBytes];  // of the L2 only
    };
    using Lines = std::map<u64, Line>;

    void store_line(u32 block, u64 address, unsigned bytes, Scope scope, Page page, const u8* data);
    void load_bytes(u64 address, unsigned bytes, Scope scope, Page page, u8* out);
    void fill(Lines& lines, u64 line, Scope scope, Page page);
    void write_back(u64 address, Line& line);
    void write_back_all();
    void refresh(Lines& lines, bool of_l2);
    void disturb();
    bool may_hit_first_level(Scope scope) const;
    bool may_hit_stale(Scope scope, Page page) const;
    u64 random();

    std::mutex mutex_;
    const Target* target_ = nullptr;
    u64 random_ = 1;
    Lines second_;                  // the L2 of the device
    std::map<u32, Lines> first_;    // the L1 of each block's compute unit, written through
    Lines scalars_;
};

// The caches of a device.
Caches& caches_of(int device);

// Whether two accesses of one wave must happen in their order: they touch the same bytes, or one is about the caches.
bool conflicts(const Access& earlier, const Access& later);

}  // namespace hipcomm::amd
