// The caches between a GPU's waves and memory, as weak as the architecture allows: docs/amd.md, section 8.
#pragma once

#include <map>
#include <mutex>

#include "device_memory.h"

namespace hipcomm::amd {

constexpr unsigned kLineBytes = 128;

class Caches {
public:
    void load(u32 block, u64 address, unsigned bytes, Scope scope, const Range& range, u8* out);
    void store(u32 block, u64 address, unsigned bytes, Scope scope, const Range& range, const u8* data);
    u64 atomic(u32 block, u64 address, unsigned bytes, const Range& range, u8 kind, u64 value, u64 comparand);
    u32 scalar_load(u64 address, const Range& range);
    void operate(u32 block, u8 kind, Scope scope);

    // A kernel begins with an acquire and ends with a release.
    void begin(const Target& target, u64 seed);
    bool write_back_some();  // at the end, in any order, while peers go on; false: nothing was left
    void end();

private:
    // In the order of what is the same in every run, so that all that is random follows from the seed.
    struct Key {
        u64 number, address;
        bool operator<(const Key& other) const {
            return number != other.number ? number < other.number : address < other.address;
        }
    };
    struct Line {
        Range range;
        u8 bytes[kLineBytes];
        bool dirty[kLineBytes];  // of the L2 only
    };
    using Lines = std::map<Key, Line>;

    static Key key_of(u64 line, const Range& range) {
        return {u64(range.id) << 32 | (line - range.begin) / kLineBytes, line};
    }
    void store_line(u32 block, u64 address, unsigned bytes, Scope scope, const Range& range, const u8* data);
    void load_bytes(u64 address, unsigned bytes, Scope scope, const Range& range, u8* out);
    Line& fill(Lines& lines, u64 line, Scope scope, const Range& range);
    void write_back(u64 address, Line& line);
    static bool is_dirty(const Line& line);
    void write_back_all();
    void refresh(Lines& lines, bool of_l2, bool spares_local = false);
    void disturb();
    bool may_hit_first_level(Scope scope) const;
    bool may_hit_stale(Scope scope, Page page) const;
    bool toss();  // a coin; without a seed always the side that keeps the older value
    u64 random();

    std::mutex mutex_;
    const Target* target_ = nullptr;
    u64 random_ = 1;
    bool is_random_ = true;
    Key last_disturbed_ = {0, 0};
    Lines second_;                  // the L2 of the device
    std::map<u32, Lines> first_;    // the L1 of each compute unit, written through
    Lines scalars_;
};

// The caches of a device.
Caches& caches_of(int device);

// Whether two accesses of one wave must happen in their order: they touch the same bytes, or one is about the
// caches.
bool conflicts(const Access& earlier, const Access& later);

}  // namespace hipcomm::amd
