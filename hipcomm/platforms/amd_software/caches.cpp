// The caches of a software GPU.
//
// A copy in a cache may have been made at any time since the cache was last invalidated. So an invalidation does not
// always drop a line: it may read it again, as another wave could have done at that moment. Then later loads that may
// hit it get the oldest value that is allowed.
#include "caches.h"

#include <cstring>

#include "../cpu/regions.h"
#include "settings.h"

namespace hipcomm::amd {
namespace {

constexpr size_t kMostLines = 4096;  // of a cache; beyond, lines are dropped at random

bool is_mapped(u64 line) {
    const auto region = cpu::Regions::instance().find(reinterpret_cast<const void*>(line));
    return region != nullptr && line + kLineBytes <= region->end();
}

u64 line_of(u64 address) { return address / kLineBytes * kLineBytes; }

struct Extent {
    u64 begin, end;
};

Extent extent_of(const Access& access) {
    Extent extent = {~0ull, 0};
    for (u64 left = access.lanes; left != 0; left &= left - 1) {
        const u64 address = access.addresses[__builtin_ctzll(left)];
        extent.begin = std::min(extent.begin, address);
        extent.end = std::max(extent.end, address + access.bytes);
    }
    return extent;
}

bool overlap(const Access& a, const Access& b) {
    const Extent one = extent_of(a), other = extent_of(b);
    if (one.end <= other.begin || other.end <= one.begin) return false;
    for (u64 left = a.lanes; left != 0; left &= left - 1) {
        const u64 begin = a.addresses[__builtin_ctzll(left)], end = begin + a.bytes;
        for (u64 rest = b.lanes; rest != 0; rest &= rest - 1) {
            const u64 address = b.addresses[__builtin_ctzll(rest)];
            if (address < end && begin < address + b.bytes) return true;
        }
    }
    return false;
}

// Loads into the same register return in order.
bool share_result(const Access& a, const Access& b) {
    if (a.action != Action::kLoad || b.action != Action::kLoad) return false;
    const Operand& one = a.instruction->result;
    const Operand& other = b.instruction->result;
    return one.index < other.index + registers_of(other.type) && other.index < one.index + registers_of(one.type);
}

bool writes_back(const Access& access) {
    const u8 kind = access.instruction->operation->kind;
    return access.action == Action::kCache && (kind == kWriteBack || kind == kWriteBackInvalidate);
}

}  // namespace

Caches& caches_of(int device) {
    static auto& all = *new std::map<int, Caches>;  // never destroyed: threads may launch while the process exits
    static std::mutex mutex;
    const std::lock_guard<std::mutex> lock(mutex);
    return all[device];
}

bool conflicts(const Access& earlier, const Access& later) {
    if (earlier.lanes == 0) return false;
    if (earlier.action == Action::kCache) return later.action == Action::kCache || (!later.is_shared && !writes_back(earlier));
    // A write-back follows the wave's stores down the same path; a load may be overtaken by an invalidation.
    if (later.action == Action::kCache) return writes_back(later) && !earlier.is_shared && earlier.action != Action::kLoad;
    if (share_result(earlier, later)) return true;
    if (earlier.is_shared || later.is_shared) return earlier.is_shared == later.is_shared;  // LDS is in order
    return overlap(earlier, later);
}

u64 Caches::random() {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    random_ ^= random_ << 17;
    return random_;
}

bool Caches::may_hit_first_level(Scope scope) const {
    const bool is_shared_by_block = target_->family == Family::kGfx9 && target_->memory.has_scope_bits;
    return scope == Scope::kWave || (is_shared_by_block && scope == Scope::kWorkgroup);
}

// Whether the L2 may answer with a copy that memory has moved on from.
bool Caches::may_hit_stale(Scope scope, Page page) const {
    if (page == Page::kUncached) return false;
    if (page == Page::kLocal && target_->memory.probes_local_memory && settings().has_probes) return false;
    return scope < Scope::kSystem || !target_->memory.has_scope_bits;
}

// Bytes as the L2 has them, or memory.
void Caches::load_bytes(u64 address, unsigned bytes, Scope scope, Page page, u8* out) {
    const u64 line = line_of(address);
    const u64 offset = address - line;
    if (offset + bytes > kLineBytes) {
        const unsigned part = unsigned(kLineBytes - offset);
        load_bytes(address, part, scope, page, out);
        return load_bytes(line + kLineBytes, bytes - part, scope, page, out + part);
    }
    const auto found = second_.find(line);
    const bool is_stale = found != second_.end() && may_hit_stale(scope, page);
    if (!is_stale) load_words(address, bytes, out);
    if (found == second_.end()) {
        if (page != Page::kUncached && random() % 2 == 0) fill(second_, line, scope, page);
        return;
    }
    for (unsigned index = 0; index < bytes; ++index)
        if (is_stale || found->second.dirty[offset + index]) out[index] = found->second.bytes[offset + index];
}

// Brings a line into a cache.
// Mappings are whole pages, so a line can be read to its end.
void Caches::fill(Lines& lines, u64 line, Scope scope, Page page) {
    if (lines.size() >= kMostLines) {
        auto victim = lines.begin();
        std::advance(victim, random() % lines.size());
        if (&lines == &second_) write_back(victim->first, victim->second);
        lines.erase(victim);
    }
    Line& copy = lines[line];
    copy.page = page;
    std::memset(copy.dirty, 0, sizeof copy.dirty);
    // Allocations are whole pages, and a line lies in one of them.
    if (&lines == &second_) load_words(line, kLineBytes, copy.bytes);
    else load_bytes(line, kLineBytes, scope, page, copy.bytes);
}

void Caches::load(u32 block, u64 address, unsigned bytes, Scope scope, Page page, u8* out) {
    const std::lock_guard<std::mutex> lock(mutex_);
    disturb();
    const u64 line = line_of(address);
    if (!may_hit_first_level(scope) || address - line + bytes > kLineBytes) return load_bytes(address, bytes, scope, page, out);
    Lines& lines = first_[block];
    auto found = lines.find(line);
    if (found == lines.end()) {
        if (random() % 2 == 0) return load_bytes(address, bytes, scope, page, out);
        fill(lines, line, scope, page);
        found = lines.find(line);
    }
    std::memcpy(out, found->second.bytes + (address - line), bytes);
}

void Caches::store(u32 block, u64 address, unsigned bytes, Scope scope, Page page, const u8* data) {
    const std::lock_guard<std::mutex> lock(mutex_);
    disturb();
    const u64 line = line_of(address);
    const u64 offset = address - line;
    if (offset + bytes > kLineBytes) {
        const unsigned part = unsigned(kLineBytes - offset);
        store_line(block, address, part, scope, page, data);
        return store_line(block, line + kLineBytes, bytes - part, scope, page, data + part);
    }
    store_line(block, address, bytes, scope, page, data);
}

void Caches::store_line(u32 block, u64 address, unsigned bytes, Scope scope, Page page, const u8* data) {
    const u64 line = line_of(address);
    const u64 offset = address - line;
    Lines& own = first_[block];
    const auto near = own.find(line);
    if (near != own.end()) std::memcpy(near->second.bytes + offset, data, bytes);
    const bool is_through = page == Page::kUncached || (target_->memory.has_scope_bits && scope == Scope::kSystem);
    auto found = second_.find(line);
    if (!is_through && found == second_.end()) {
        fill(second_, line, scope, page);
        found = second_.find(line);
    }
    if (found != second_.end()) {
        std::memcpy(found->second.bytes + offset, data, bytes);
        std::memset(found->second.dirty + offset, is_through ? 0 : 1, bytes);
    }
    if (is_through) store_words(address, bytes, data);
}

u64 Caches::atomic(u32 block, u64 address, unsigned bytes, u8 kind, u64 value, u64 comparand) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const u64 line = line_of(address);
    const auto found = second_.find(line);
    if (found != second_.end()) {
        write_back(line, found->second);
        second_.erase(found);
    }
    first_[block].erase(line);
    return atomic_word(address, bytes, kind, value, comparand);
}

u32 Caches::scalar_load(u64 address, Page page) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const u64 line = line_of(address);
    u32 value;
    auto found = scalars_.find(line);
    if (found == scalars_.end()) {
        fill(scalars_, line, Scope::kWave, page);
        found = scalars_.find(line);
    }
    std::memcpy(&value, found->second.bytes + (address - line), sizeof value);
    return value;
}

void Caches::write_back(u64 address, Line& line) {
    for (unsigned index = 0; index < kLineBytes;) {
        if (!line.dirty[index]) {
            ++index;
            continue;
        }
        unsigned end = index + 1;
        while (end < kLineBytes && line.dirty[end]) ++end;
        // In words as large as they may be, so that no word of a peer is torn.
        while (index < end) {
            unsigned bytes = 8;
            while (index % bytes != 0 || index + bytes > end) bytes /= 2;
            store_words(address + index, bytes, line.bytes + index);
            index += bytes;
        }
    }
    std::memset(line.dirty, 0, sizeof line.dirty);
}

void Caches::write_back_all() {
    for (auto& [address, line] : second_) write_back(address, line);
}

// Invalidates: lines are dropped, or read again at this moment.
void Caches::refresh(Lines& lines, bool of_l2) {
    for (auto entry = lines.begin(); entry != lines.end();) {
        Line& line = entry->second;
        if (of_l2) {
            const bool is_dirty = std::memchr(line.dirty, 1, sizeof line.dirty) != nullptr;
            if (is_dirty) {
                ++entry;
                continue;
            }
        }
        if (random() % 2 == 0) {
            entry = lines.erase(entry);
            continue;
        }
        if (of_l2) load_words(entry->first, kLineBytes, line.bytes);
        else load_bytes(entry->first, kLineBytes, Scope::kWave, line.page, line.bytes);
        ++entry;
    }
}

// A dirty line may be written back at any time.
void Caches::disturb() {
    if (second_.empty() || random() % 64 != 0) return;
    auto entry = second_.begin();
    std::advance(entry, random() % second_.size());
    write_back(entry->first, entry->second);
}

void Caches::operate(u32 block, u8 kind, Scope scope) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const bool is_system = scope == Scope::kSystem;
    if ((kind == kWriteBack || kind == kWriteBackInvalidate) && is_system) write_back_all();
    const bool is_second = kind == kInvalidateL2 || ((kind == kInvalidate || kind == kWriteBackInvalidate) && is_system);
    if (is_second) refresh(second_, true);
    const Scope least = target_->family == Family::kGfx9 ? Scope::kAgent : Scope::kWorkgroup;
    const bool is_first = kind == kInvalidateL1 || ((kind == kInvalidate || kind == kWriteBackInvalidate) && scope >= least);
    if (is_first) refresh(first_[block], false);
    if (kind == kInvalidateScalars) scalars_.clear();
}

void Caches::begin(const Target& target, u64 seed) {
    const std::lock_guard<std::mutex> lock(mutex_);
    target_ = &target;
    random_ = seed | 1;
    first_.clear();
    scalars_.clear();
    // A kernel begins with an acquire. Memory may have been freed since the last one.
    for (auto entry = second_.begin(); entry != second_.end();)
        entry = is_mapped(entry->first) ? std::next(entry) : second_.erase(entry);
    refresh(second_, true);
}

void Caches::end() {
    const std::lock_guard<std::mutex> lock(mutex_);
    write_back_all();
}

}  // namespace hipcomm::amd
