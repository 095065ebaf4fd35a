// What a launch sees of memory: which addresses there are, of which kind their pages are, and the caches in
// between.
#pragma once

#include <memory>

#include "memory.h"

namespace hipcomm::amd {

// How the device maps a page: uncached, cached by its owner, cached by a peer.
enum class Page : u8 { kUncached, kLocal, kRemote, kReadOnly };

struct Range {
    u64 begin = 0;
    u64 end = 0;
    Page page = Page::kUncached;
    u32 id = 0;  // the same in every run, wherever the memory is mapped
    bool is_remote = false;
};

class Caches;

class DeviceMemory {
public:
    // Known besides what was allocated: the argument segment and the code object.
    DeviceMemory(const Target& target, int device, Range arguments, Range code, Caches* caches)
        : target_(target), device_(device), arguments_(arguments), code_(code), caches_(caches) {}

    // The range that holds these bytes. Faults where nothing is allocated.
    const Range& find(u64 address, unsigned bytes) {
        if (__builtin_expect(address < last_.begin || address + bytes > last_.end, 0))
            look_up(address, bytes);
        return last_;
    }

    void load(u32 block, u64 address, unsigned bytes, Scope scope, u8* out);
    void store(u32 block, u64 address, unsigned bytes, Scope scope, const u8* data);
    u64 atomic(u32 block, u64 address, unsigned bytes, u8 kind, u64 value, u64 comparand);
    void cache_operation(u32 block, u8 kind, Scope scope);
    u32 scalar_load(u64 address);

    bool is_weak() const { return caches_ != nullptr; }

    // The caches at the beginning and at the end of a kernel. All that is random in them follows from the
    // seed.
    void begin(u64 seed);
    // Stored in other devices' memory; and in how many pieces, each of addresses that follow each other.
    u64 remote_bytes() const { return remote_bytes_; }
    u64 remote_pieces() const { return remote_pieces_; }
    bool write_back_some();
    void end();

private:
    void look_up(u64 address, unsigned bytes);

    const Target& target_;
    int device_;
    Range arguments_, code_;
    Caches* caches_;  // null: every access goes straight to memory
    Range last_;
    u64 remote_bytes_ = 0, remote_pieces_ = 0;
    u64 remote_end_ = 0;  // of the last piece
};

// The machine's memory: one access of up to 8 aligned bytes is one access.
// Atomics return the old value.
void load_words(u64 address, unsigned bytes, u8* out);
void store_words(u64 address, unsigned bytes, const u8* data);
u64 atomic_word(u64 address, unsigned bytes, u8 kind, u64 value, u64 comparand);

}  // namespace hipcomm::amd
