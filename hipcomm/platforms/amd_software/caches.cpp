// The caches of a software GPU.
//
// A copy in a cache may have been made at any time since the cache was last invalidated. So an invalidation
// does not always drop a line: it may read it again, as another wave could have done at that moment. Then
// later loads that may hit it get the oldest value that is allowed.
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

bool overlap(const Access& a, const Access& b) {
    if (a.end <= b.begin || b.end <= a.begin) return false;
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
    return one.index < other.index + registers_of(other.type) &&
           other.index < one.index + registers_of(one.type);
}

bool writes_back(const Access& access) {
    const u8 kind = access.instruction->operation->kind;
    return access.action == Action::kCache && (kind == kWriteBack || kind == kWriteBackInvalidate);
}

}  // namespace

Caches& caches_of(int device) {
    static auto& all =
        *new std::map<int, Caches>;  // never destroyed: threads may launch while the process exits
    static std::mutex mutex;
    const std::lock_guard<std::mutex> lock(mutex);
    return all[device];
}

bool conflicts(const Access& earlier, const Access& later) {
    if (earlier.lanes == 0) return false;
    if (earlier.action == Action::kCache)
        return later.action == Action::kCache || (!later.is_shared && !writes_back(earlier));
    // A write-back follows the wave's stores down the same path; a load may be overtaken by an invalidation.
    if (later.action == Action::kCache)
        return writes_back(later) && !earlier.is_shared && earlier.action != Action::kLoad;
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

bool Caches::toss() { return !is_random_ || random() % 2 == 0; }

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
void Caches::load_bytes(u64 address, unsigned bytes, Scope scope, const Range& range, u8* out) {
    const u64 line = line_of(address);
    const u64 offset = address - line;
    if (offset + bytes > kLineBytes) {
        const unsigned part = unsigned(kLineBytes - offset);
        load_bytes(address, part, scope, range, out);
        return load_bytes(line + kLineBytes, bytes - part, scope, range, out + part);
    }
    const auto found = second_.find(key_of(line, range));
    const bool is_stale = found != second_.end() && may_hit_stale(scope, range.page);
    if (!is_stale) load_words(address, bytes, out);
    if (found == second_.end()) {
        if (range.page != Page::kUncached && toss()) fill(second_, line, scope, range);
        return;
    }
    for (unsigned index = 0; index < bytes; ++index)
        if (is_stale || found->second.dirty[offset + index]) out[index] = found->second.bytes[offset + index];
}

// Brings a line into a cache. Allocations are whole pages, so a line can be read to its end.
Caches::Line& Caches::fill(Lines& lines, u64 line, Scope scope, const Range& range) {
    if (lines.size() >= kMostLines) {
        auto victim = lines.begin();
        std::advance(victim, random() % lines.size());
        if (&lines == &second_) write_back(victim->first.address, victim->second);
        lines.erase(victim);
    }
    Line& copy = lines[key_of(line, range)];
    copy.range = range;
    std::memset(copy.dirty, 0, sizeof copy.dirty);
    if (&lines == &second_) load_words(line, kLineBytes, copy.bytes);
    else load_bytes(line, kLineBytes, scope, range, copy.bytes);
    return copy;
}

void Caches::load(u32 block, u64 address, unsigned bytes, Scope scope, const Range& range, u8* out) {
    const std::lock_guard<std::mutex> lock(mutex_);
    disturb();
    const u64 line = line_of(address);
    const bool is_past = !may_hit_first_level(scope) || address - line + bytes > kLineBytes;
    if (is_past) return load_bytes(address, bytes, scope, range, out);
    Lines& lines = first_[block];
    const auto found = lines.find(key_of(line, range));
    if (found == lines.end() && !toss()) return load_bytes(address, bytes, scope, range, out);
    const Line& copy = found == lines.end() ? fill(lines, line, scope, range) : found->second;
    std::memcpy(out, copy.bytes + (address - line), bytes);
}

void Caches::store(u32 block, u64 address, unsigned bytes, Scope scope, const Range& range, const u8* data) {
    const std::lock_guard<std::mutex> lock(mutex_);
    disturb();
    const u64 line = line_of(address);
    const u64 offset = address - line;
    if (offset + bytes > kLineBytes) {
        const unsigned part = unsigned(kLineBytes - offset);
        store_line(block, address, part, scope, range, data);
        return store_line(block, line + kLineBytes, bytes - part, scope, range, data + part);
    }
    store_line(block, address, bytes, scope, range, data);
}

void Caches::store_line(u32 block, u64 address, unsigned bytes, Scope scope, const Range& range,
                        const u8* data) {
    const u64 line = line_of(address);
    const u64 offset = address - line;
    Lines& own = first_[block];
    const auto near = own.find(key_of(line, range));
    if (near != own.end()) std::memcpy(near->second.bytes + offset, data, bytes);
    const bool is_through =
        range.page == Page::kUncached || (target_->memory.has_scope_bits && scope == Scope::kSystem);
    const auto found = second_.find(key_of(line, range));
    if (!is_through || found != second_.end()) {
        Line& copy = found == second_.end() ? fill(second_, line, scope, range) : found->second;
        std::memcpy(copy.bytes + offset, data, bytes);
        std::memset(copy.dirty + offset, is_through ? 0 : 1, bytes);
    }
    if (is_through) store_words(address, bytes, data);
}

u64 Caches::atomic(u32 block, u64 address, unsigned bytes, const Range& range, u8 kind, u64 value,
                   u64 comparand) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const Key key = key_of(line_of(address), range);
    const auto found = second_.find(key);
    if (found != second_.end()) {
        write_back(key.address, found->second);
        second_.erase(found);
    }
    first_[block].erase(key);
    return atomic_word(address, bytes, kind, value, comparand);
}

u32 Caches::scalar_load(u64 address, const Range& range) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const u64 line = line_of(address);
    const auto found = scalars_.find(key_of(line, range));
    const Line& copy = found == scalars_.end() ? fill(scalars_, line, Scope::kWave, range) : found->second;
    u32 value;
    std::memcpy(&value, copy.bytes + (address - line), sizeof value);
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

bool Caches::is_dirty(const Line& line) { return std::memchr(line.dirty, 1, sizeof line.dirty) != nullptr; }

void Caches::write_back_all() {
    for (auto& [key, line] : second_) write_back(key.address, line);
}

// Invalidates: lines are dropped, or read again at this moment.
void Caches::refresh(Lines& lines, bool of_l2, bool spares_local) {
    for (auto entry = lines.begin(); entry != lines.end();) {
        Line& line = entry->second;
        const bool stays = of_l2 && (is_dirty(line) || (spares_local && line.range.page == Page::kLocal));
        if (!stays && !toss()) {
            entry = lines.erase(entry);
            continue;
        }
        if (!stays && of_l2) load_words(entry->first.address, kLineBytes, line.bytes);
        else if (!stays) load_bytes(entry->first.address, kLineBytes, Scope::kWave, line.range, line.bytes);
        ++entry;
    }
}

// A dirty line may be written back at any time.
void Caches::disturb() {
    if (!is_random_ || second_.empty() || random() % 64 != 0) return;
    auto entry = second_.upper_bound(last_disturbed_);
    if (entry == second_.end()) entry = second_.begin();
    write_back(entry->first.address, entry->second);
    last_disturbed_ = entry->first;
}

void Caches::operate(u32 block, u8 kind, Scope scope) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const bool is_system = scope == Scope::kSystem;
    if ((kind == kWriteBack || kind == kWriteBackInvalidate) && is_system) write_back_all();
    const bool is_second =
        kind == kInvalidateL2 || ((kind == kInvalidate || kind == kWriteBackInvalidate) && is_system);
    // On gfx9 probes keep the lines of local memory coherent, and an invalidation is of the others.
    if (is_second) refresh(second_, true, target_->memory.probes_local_memory);
    const Scope least = target_->family == Family::kGfx9 ? Scope::kAgent : Scope::kWorkgroup;
    const bool is_first =
        kind == kInvalidateL1 || ((kind == kInvalidate || kind == kWriteBackInvalidate) && scope >= least);
    if (is_first) refresh(first_[block], false);
    if (kind == kInvalidateScalars) scalars_.clear();
}

void Caches::begin(const Target& target, u64 seed) {
    const std::lock_guard<std::mutex> lock(mutex_);
    target_ = &target;
    random_ = seed | 1;
    is_random_ = settings().seed != 0;
    scalars_.clear();
    // Memory may have been freed since the last kernel.
    const auto drop_unmapped = [](Lines& lines) {
        for (auto entry = lines.begin(); entry != lines.end();)
            entry = is_mapped(entry->first.address) ? std::next(entry) : lines.erase(entry);
    };
    drop_unmapped(second_);
    refresh(second_, true);
    for (auto& [block, lines] : first_) {
        drop_unmapped(lines);
        refresh(lines, false);
    }
}

bool Caches::write_back_some() {
    const std::lock_guard<std::mutex> lock(mutex_);
    bool was_left = false;
    for (auto& [key, line] : second_) {
        if (!is_dirty(line)) continue;
        was_left = true;
        if (random() % 4 == 0) write_back(key.address, line);
    }
    return was_left;
}

void Caches::end() {
    const std::lock_guard<std::mutex> lock(mutex_);
    write_back_all();
}

}  // namespace hipcomm::amd
