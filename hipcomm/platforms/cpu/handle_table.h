// Opaque handles that can be checked.
//
// A program may hand in any value as a stream, event, module or function.  Objects behind handles live in an
// address range that is reserved once and never returned, so that a check needs no lock and no look-up: the
// address is in the range, at the start of a slot, and the slot is live.  Garbage and destroyed handles fail
// it; neither is ever dereferenced beyond our own memory.
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <utility>

namespace hipcomm::cpu {

template <class T, size_t Capacity>
class HandleTable {
public:
    HandleTable() {
        void* range = mmap(nullptr, Capacity * sizeof(Slot), PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        // Without a range every find() fails and every create() reports that memory is out.
        slots_ = range == MAP_FAILED ? nullptr : static_cast<Slot*>(range);
        first_ = slots_ == nullptr ? 0 : reinterpret_cast<uintptr_t>(slots_) + offsetof(Slot, storage);
    }
    HandleTable(const HandleTable&) = delete;
    HandleTable& operator=(const HandleTable&) = delete;

    // The object behind a handle, or null.
    T* find(const void* handle) const noexcept {
        const uintptr_t offset = reinterpret_cast<uintptr_t>(handle) - first_;
        if (__builtin_expect(first_ == 0 || offset >= Capacity * sizeof(Slot) || offset % sizeof(Slot) != 0,
                             0)) {
            return nullptr;
        }
        Slot& slot = slots_[offset / sizeof(Slot)];
        return slot.live.load(std::memory_order_acquire) ? object(slot) : nullptr;
    }

    template <class... Arguments>
    T* create(Arguments&&... arguments) {
        const size_t index = reserve();
        Slot& slot = slots_[index];
        try {
            new (&slot.storage) T(std::forward<Arguments>(arguments)...);
        } catch (...) {
            recycle(index);
            throw;
        }
        slot.live.store(true, std::memory_order_release);
        return object(slot);
    }

    // Destroys the object behind a handle that find() accepted.  False: another thread was faster.
    bool destroy(T* handle) {
        const uintptr_t offset = reinterpret_cast<uintptr_t>(handle) - first_;
        const size_t index = offset / sizeof(Slot);
        Slot& slot = slots_[index];
        if (!slot.live.exchange(false, std::memory_order_acq_rel)) return false;
        object(slot)->~T();
        recycle(index);
        return true;
    }

private:
    static constexpr size_t kNone = Capacity;

    struct alignas(64) Slot {
        std::atomic<bool> live;  // the range is zero-filled: starts as false
        size_t next_dead;
        alignas(T) unsigned char storage[sizeof(T)];
    };

    static T* object(Slot& slot) noexcept { return std::launder(reinterpret_cast<T*>(&slot.storage)); }

    // Slots that were never used come first, then the one that has been dead for longest: a stale handle
    // stays recognisable for as long as possible.
    size_t reserve() {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (slots_ == nullptr) throw std::bad_alloc();
        if (used_ < Capacity) return used_++;
        if (oldest_dead_ == kNone) throw std::bad_alloc();
        const size_t index = oldest_dead_;
        oldest_dead_ = slots_[index].next_dead;
        return index;
    }

    void recycle(size_t index) {
        const std::lock_guard<std::mutex> lock(mutex_);
        slots_[index].next_dead = kNone;
        if (oldest_dead_ == kNone) {
            oldest_dead_ = index;
        } else {
            slots_[newest_dead_].next_dead = index;
        }
        newest_dead_ = index;
    }

    Slot* slots_;
    uintptr_t first_;
    std::mutex mutex_;
    size_t used_ = 0;
    size_t oldest_dead_ = kNone;
    size_t newest_dead_ = kNone;
};

}  // namespace hipcomm::cpu
