// ELF shared objects in memory.
#include "elf_image.h"

#include <elf.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "host_access.h"

namespace hipcomm::cpu {
namespace {

#if defined(__x86_64__)
constexpr Elf64_Half kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr Elf64_Half kMachine = EM_AARCH64;
#else
#error "name this machine's ELF number here"
#endif

// No code object comes near this; a larger figure is a damaged header.
constexpr uint64_t kMaxBytes = uint64_t{1} << 32;

constexpr char kOffloadBundle[] = "__CLANG_OFFLOAD_BUNDLE__";

bool has_prefix(const void* image, const char* prefix, size_t length) {
    return is_accessible(image, length, Access::kRead) && std::memcmp(image, prefix, length) == 0;
}

// Extends `end` over [offset, offset + bytes).  False: the figures are absurd.
bool cover(uint64_t& end, uint64_t offset, uint64_t bytes) {
    if (offset > kMaxBytes || bytes > kMaxBytes) return false;
    end = std::max(end, offset + bytes);
    return true;
}

}  // namespace

hipError_t measure_elf_image(const void* image, size_t* bytes) {
    if (has_prefix(image, kOffloadBundle, sizeof kOffloadBundle - 1)) return hipErrorNoBinaryForGpu;
    if (!has_prefix(image, ELFMAG, SELFMAG)) return hipErrorInvalidImage;

    Elf64_Ehdr header;
    if (!is_accessible(image, sizeof header, Access::kRead)) return hipErrorInvalidImage;
    std::memcpy(&header, image, sizeof header);
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB) return hipErrorInvalidImage;
    if (header.e_machine != kMachine) return hipErrorNoBinaryForGpu;
    if (header.e_type != ET_DYN) return hipErrorInvalidImage;
    if (header.e_phentsize != sizeof(Elf64_Phdr)) return hipErrorInvalidImage;
    if (header.e_shnum != 0 && header.e_shentsize != sizeof(Elf64_Shdr)) return hipErrorInvalidImage;

    // The file ends with whatever reaches farthest: a segment, a section, or one of the two tables.
    const char* const base = static_cast<const char*>(image);
    uint64_t end = sizeof header;
    const uint64_t segment_bytes = uint64_t{header.e_phnum} * sizeof(Elf64_Phdr);
    const uint64_t section_bytes = uint64_t{header.e_shnum} * sizeof(Elf64_Shdr);
    if (!cover(end, header.e_phoff, segment_bytes) || !cover(end, header.e_shoff, section_bytes) ||
        !is_accessible(base + header.e_phoff, segment_bytes, Access::kRead) ||
        !is_accessible(base + header.e_shoff, section_bytes, Access::kRead)) {
        return hipErrorInvalidImage;
    }
    for (uint64_t index = 0; index < header.e_phnum; ++index) {
        Elf64_Phdr segment;
        std::memcpy(&segment, base + header.e_phoff + index * sizeof segment, sizeof segment);
        if (!cover(end, segment.p_offset, segment.p_filesz)) return hipErrorInvalidImage;
    }
    for (uint64_t index = 0; index < header.e_shnum; ++index) {
        Elf64_Shdr section;
        std::memcpy(&section, base + header.e_shoff + index * sizeof section, sizeof section);
        if (section.sh_type == SHT_NOBITS) continue;
        if (!cover(end, section.sh_offset, section.sh_size)) return hipErrorInvalidImage;
    }
    if (!is_accessible(image, end, Access::kRead)) return hipErrorInvalidImage;
    *bytes = end;
    return hipSuccess;
}

}  // namespace hipcomm::cpu
