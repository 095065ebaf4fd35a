// The memory that this platform knows: what was allocated, pinned, registered or opened from a peer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <shared_mutex>

#include "file_descriptor.h"
#include "hip_functions.h"

namespace hipcomm::cpu {

enum class RegionKind {
    kDevice,          // hipMalloc and its relatives: a mapped memfd
    kImported,        // another process's device memory, opened through an IPC handle
    kHostPinned,      // hipHostMalloc
    kHostRegistered,  // hipHostRegister: the program's own memory
    kModuleGlobal,    // a variable inside a loaded code object
};

struct Region {
    RegionKind kind = RegionKind::kDevice;
    uintptr_t base = 0;
    size_t bytes = 0;  // as asked for; mappings are whole pages
    int device = 0;
    unsigned flags = 0;
    uint64_t id = 0;              // of device memory: random, the same in every process that maps it
    FileDescriptor file;          // of device memory: the memfd
    Mapping mapping;              // empty for memory that is not ours to unmap
    int open_count = 1;           // of imported memory: hipIpcOpenMemHandle calls not yet closed
    const void* owner = nullptr;  // of a module's variable: the module

    void* pointer() const { return reinterpret_cast<void*>(base); }
    uintptr_t end() const { return base + bytes; }
    bool is_host() const { return kind == RegionKind::kHostPinned || kind == RegionKind::kHostRegistered; }
    bool is_device() const { return !is_host(); }
};

// All regions of the process, by address.  A region that is shared out stays mapped while somebody holds it.
class Regions {
public:
    using Pointer = std::shared_ptr<Region>;

    static Regions& instance();

    // False: part of the range is known already.
    bool insert(Pointer region);

    // The region that contains an address, or null.
    Pointer find(const void* address) const;

    // True where a region lies in the range, whole or in part.
    bool overlaps(const void* address, size_t bytes) const;

    // Takes out and returns the region that starts at `base`, if `matches` accepts it.
    Pointer remove(const void* base, const std::function<bool(Region&)>& matches);

    // Takes out all variables of a module.
    void remove_owned_by(const void* owner);

    // The first region that `matches` accepts, which may change it: nobody else looks at it meanwhile.
    Pointer find_if(const std::function<bool(Region&)>& matches);

    // Bytes of device memory that this process has allocated on a device.
    size_t bytes_on(int device) const;

private:
    Pointer find_locked(uintptr_t address) const;
    bool overlaps_locked(uintptr_t address, size_t bytes) const;
    void count(const Region& region, bool is_new);

    mutable std::shared_mutex mutex_;
    std::map<uintptr_t, Pointer> by_base_;
    std::map<int, size_t> device_bytes_;
};

}  // namespace hipcomm::cpu
