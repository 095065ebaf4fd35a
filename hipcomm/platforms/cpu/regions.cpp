// The table of known memory.
#include "regions.h"

#include <mutex>

namespace hipcomm::cpu {

Regions& Regions::instance() {
    // Never destroyed: other threads may still use device memory while the process exits.
    static Regions& regions = *new Regions;
    return regions;
}

bool Regions::insert(Pointer region) {
    const std::unique_lock<std::shared_mutex> lock(mutex_);
    if (overlaps_locked(region->base, region->bytes)) return false;
    count(*region, true);
    const uintptr_t base = region->base;
    by_base_.emplace(base, std::move(region));
    return true;
}

void Regions::count(const Region& region, bool is_new) {
    if (region.kind != RegionKind::kDevice) return;
    size_t& total = device_bytes_[region.device];
    total = is_new ? total + region.bytes : total - region.bytes;
}

Regions::Pointer Regions::find(const void* address) const {
    const std::shared_lock<std::shared_mutex> lock(mutex_);
    return find_locked(reinterpret_cast<uintptr_t>(address));
}

Regions::Pointer Regions::find_locked(uintptr_t address) const {
    auto next = by_base_.upper_bound(address);
    if (next == by_base_.begin()) return nullptr;
    const Pointer& candidate = std::prev(next)->second;
    return address < candidate->end() ? candidate : nullptr;
}

bool Regions::overlaps(const void* address, size_t bytes) const {
    const std::shared_lock<std::shared_mutex> lock(mutex_);
    return overlaps_locked(reinterpret_cast<uintptr_t>(address), bytes);
}

bool Regions::overlaps_locked(uintptr_t address, size_t bytes) const {
    if (find_locked(address) != nullptr) return true;
    const auto next = by_base_.lower_bound(address);
    return next != by_base_.end() && next->first - address < bytes;
}

Regions::Pointer Regions::remove(const void* base, const std::function<bool(Region&)>& matches) {
    const std::unique_lock<std::shared_mutex> lock(mutex_);
    const auto found = by_base_.find(reinterpret_cast<uintptr_t>(base));
    if (found == by_base_.end() || !matches(*found->second)) return nullptr;
    Pointer region = std::move(found->second);
    by_base_.erase(found);
    count(*region, false);
    return region;
}

void Regions::remove_owned_by(const void* owner) {
    const std::unique_lock<std::shared_mutex> lock(mutex_);
    for (auto entry = by_base_.begin(); entry != by_base_.end();) {
        entry = entry->second->owner == owner ? by_base_.erase(entry) : std::next(entry);
    }
}

Regions::Pointer Regions::find_if(const std::function<bool(Region&)>& matches) {
    const std::unique_lock<std::shared_mutex> lock(mutex_);
    for (const auto& entry : by_base_) {
        if (matches(*entry.second)) return entry.second;
    }
    return nullptr;
}

size_t Regions::bytes_on(int device) const {
    const std::shared_lock<std::shared_mutex> lock(mutex_);
    const auto found = device_bytes_.find(device);
    return found == device_bytes_.end() ? 0 : found->second;
}

}  // namespace hipcomm::cpu
