// Which memory a launch may touch.
#include "device_memory.h"

#include "../cpu/regions.h"
#include "caches.h"

namespace hipcomm::amd {
namespace {

Page page_of(const cpu::Region& region, int device) {
    if (region.is_host()) return Page::kUncached;  // fine-grained
    if ((region.flags & (hipDeviceMallocUncached | hipDeviceMallocFinegrained)) != 0) return Page::kUncached;
    const bool is_own = region.kind != cpu::RegionKind::kImported && region.device == device;
    return is_own ? Page::kLocal : Page::kRemote;
}

// Two allocations that are alike in all of this are told apart by their addresses, which differ from run to
// run.
u32 number_of(const cpu::Region& region) {
    return u32((region.bytes / 256 * 0x9e3779b97f4a7c15ull) >> 40) ^ u32(region.flags) << 20 ^
           u32(region.device) << 26;
}

}  // namespace

void DeviceMemory::look_up(u64 address, unsigned bytes) {
    const auto holds = [&](const Range& range) {
        return address >= range.begin && address + bytes <= range.end;
    };
    if (holds(arguments_)) {
        last_ = arguments_;
    } else if (holds(code_)) {
        last_ = code_;
    } else {
        const auto region = cpu::Regions::instance().find(reinterpret_cast<const void*>(address));
        if (region == nullptr || address + bytes > region->end())
            refuse("an access of %u bytes at %#llx, where nothing is allocated", bytes,
                   static_cast<unsigned long long>(address));
        last_ = {
            region->base, region->end(), page_of(*region, device_), number_of(*region),
            !region->is_host() && (region->kind == cpu::RegionKind::kImported || region->device != device_)};
    }
}

void DeviceMemory::load(u32 block, u64 address, unsigned bytes, Scope scope, u8* out) {
    const Range& range = find(address, bytes);
    if (caches_ == nullptr || range.page == Page::kReadOnly) return load_words(address, bytes, out);
    caches_->load(block, address, bytes, scope, range, out);
}

void DeviceMemory::store(u32 block, u64 address, unsigned bytes, Scope scope, const u8* data) {
    const Range& range = find(address, bytes);
    if (range.page == Page::kReadOnly) refuse("a store to the code object or to the argument segment");
    if (range.is_remote) {
        remote_bytes_ += bytes;
        remote_pieces_ += address != remote_end_;
        remote_end_ = address + bytes;
    }
    if (caches_ == nullptr) return store_words(address, bytes, data);
    caches_->store(block, address, bytes, scope, range, data);
}

u64 DeviceMemory::atomic(u32 block, u64 address, unsigned bytes, u8 kind, u64 value, u64 comparand) {
    const Range& range = find(address, bytes);
    if (range.page == Page::kReadOnly) refuse("an atomic in the code object or in the argument segment");
    if (caches_ == nullptr) return atomic_word(address, bytes, kind, value, comparand);
    return caches_->atomic(block, address, bytes, range, kind, value, comparand);
}

void DeviceMemory::cache_operation(u32 block, u8 kind, Scope scope) {
    if (caches_ != nullptr) caches_->operate(block, kind, scope);
}

u32 DeviceMemory::scalar_load(u64 address) {
    const Range& range = find(address, 4);
    u32 value;
    if (caches_ == nullptr || range.page == Page::kReadOnly)
        load_words(address, 4, reinterpret_cast<u8*>(&value));
    else value = caches_->scalar_load(address, range);
    return value;
}

void DeviceMemory::begin(u64 seed) {
    if (caches_ != nullptr) caches_->begin(target_, seed);
}

bool DeviceMemory::write_back_some() { return caches_ != nullptr && caches_->write_back_some(); }

void DeviceMemory::end() {
    if (caches_ != nullptr) caches_->end();
}

}  // namespace hipcomm::amd
