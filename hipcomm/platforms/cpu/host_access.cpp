// Probing host memory.
//
// madvise(MADV_POPULATE_*) faults the pages in that the copy is about to touch anyway, and reports instead of
// raising a signal where it cannot.  Kernels before 5.14 do not have it, and special mappings refuse it; the
// answer then comes from /proc/self/maps.
#include "host_access.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

namespace hipcomm::cpu {
namespace {

bool is_accessible_by_maps(uintptr_t begin, uintptr_t end, Access access) {
    const std::unique_ptr<FILE, int (*)(FILE*)> maps(std::fopen("/proc/self/maps", "re"), &std::fclose);
    if (maps == nullptr) return false;
    char line[512];
    bool at_line_start = true;
    while (begin < end && std::fgets(line, sizeof line, maps.get()) != nullptr) {
        // Lines with a long path come in several pieces; only the first carries the range.
        const bool is_first_piece = at_line_start;
        at_line_start = std::strchr(line, '\n') != nullptr;
        if (!is_first_piece) continue;
        uintptr_t from = 0;
        uintptr_t to = 0;
        char permissions[5];
        if (std::sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %4s", &from, &to, permissions) != 3) return false;
        if (to <= begin) continue;
        const char needed = access == Access::kRead ? permissions[0] : permissions[1];
        if (from > begin || needed == '-') return false;
        begin = to;
    }
    return begin >= end;
}

}  // namespace

bool is_accessible(const void* pointer, size_t bytes, Access access) {
    if (bytes == 0) return true;
    const uintptr_t begin = reinterpret_cast<uintptr_t>(pointer);
    if (begin == 0 || bytes > UINTPTR_MAX - begin) return false;
    const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    const uintptr_t first = begin & ~(page - 1);
    const int advice = access == Access::kRead ? MADV_POPULATE_READ : MADV_POPULATE_WRITE;
    if (madvise(reinterpret_cast<void*>(first), begin + bytes - first, advice) == 0) return true;
    // ENOMEM: nothing is mapped there.  EFAULT: touching it would raise SIGBUS.  All else is "cannot tell".
    if (errno == ENOMEM || errno == EFAULT) return false;
    return is_accessible_by_maps(begin, begin + bytes, access);
}

size_t readable_prefix(const void* pointer, size_t bytes) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t to_page_end = page - reinterpret_cast<uintptr_t>(pointer) % page;
    size_t readable = 0;
    size_t next = std::min(bytes, to_page_end);
    while (readable < bytes &&
           is_accessible(static_cast<const char*>(pointer) + readable, next, Access::kRead)) {
        readable += next;
        next = std::min(bytes - readable, page);
    }
    return readable;
}

}  // namespace hipcomm::cpu
