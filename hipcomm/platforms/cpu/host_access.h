// Is an address range readable, or writable, without finding out by a crash?
#pragma once

#include <cstddef>

namespace hipcomm::cpu {

enum class Access { kRead, kWrite };

bool is_accessible(const void* pointer, size_t bytes, Access access);

// How many of the first `bytes` bytes are readable: all of them, or up to the end of a page.
size_t readable_prefix(const void* pointer, size_t bytes);

}  // namespace hipcomm::cpu
