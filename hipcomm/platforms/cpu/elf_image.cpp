// ELF shared objects in memory.
#include "elf_image.h"

#include <elf.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "host_access.h"

namespace hipcomm::cpu {
namespace {

// No code object comes near this; a larger figure is a damaged header.
constexpr uint64_t kMaxBytes = uint64_t{1} << 32;

constexpr char kOffloadBundle[] = "__CLANG_OFFLOAD_BUNDLE__";

bool has_prefix(const void* image, size_t available, const char* prefix, size_t length) {
    return length <= available && is_accessible(image, length, Access::kRead) &&
           std::memcmp(image, prefix, length) == 0;
}

// The part of an image that is known to belong to it and to be readable.
class Extent {
public:
    Extent(const void* image, size_t available) : image_(image), available_(std::min(available, kMaxBytes)) {}

    // Extends it over [offset, offset + bytes).  False: the image does not reach that far.
    bool cover(uint64_t offset, uint64_t bytes) {
        if (offset > available_ || bytes > available_ - offset) return false;
        const size_t end = std::max<size_t>(end_, offset + bytes);
        if (!is_accessible(static_cast<const char*>(image_) + end_, end - end_, Access::kRead)) return false;
        end_ = end;
        return true;
    }

    size_t end() const { return end_; }

private:
    const void* image_;
    size_t available_;
    size_t end_ = 0;
};

// Reads entry `index` of a table that the extent covers.
template <class Entry>
Entry read(const void* image, uint64_t offset, uint64_t index) {
    Entry entry;
    std::memcpy(&entry, static_cast<const char*>(image) + offset + index * sizeof entry, sizeof entry);
    return entry;
}

}  // namespace

hipError_t measure_elf_image(const void* image, size_t available, uint16_t machine, size_t* bytes) {
    if (has_prefix(image, available, kOffloadBundle, sizeof kOffloadBundle - 1))
        return hipErrorNoBinaryForGpu;
    if (!has_prefix(image, available, ELFMAG, SELFMAG)) return hipErrorInvalidImage;

    Extent extent(image, available);
    if (!extent.cover(0, sizeof(Elf64_Ehdr))) return hipErrorInvalidImage;
    const auto header = read<Elf64_Ehdr>(image, 0, 0);
    if (header.e_ident[EI_CLASS] != ELFCLASS64) return hipErrorInvalidImage;
    if (header.e_ident[EI_DATA] != ELFDATA2LSB) return hipErrorInvalidImage;
    if (header.e_machine != machine) return hipErrorNoBinaryForGpu;
    if (header.e_type != ET_DYN) return hipErrorInvalidImage;
    if (header.e_phentsize != sizeof(Elf64_Phdr)) return hipErrorInvalidImage;
    if (header.e_shnum != 0 && header.e_shentsize != sizeof(Elf64_Shdr)) return hipErrorInvalidImage;

    // The file ends with whatever reaches farthest: a segment, a section, or one of the two tables.
    const uint64_t segments_bytes = uint64_t{header.e_phnum} * sizeof(Elf64_Phdr);
    const uint64_t sections_bytes = uint64_t{header.e_shnum} * sizeof(Elf64_Shdr);
    if (!extent.cover(header.e_phoff, segments_bytes)) return hipErrorInvalidImage;
    if (!extent.cover(header.e_shoff, sections_bytes)) return hipErrorInvalidImage;
    for (uint64_t index = 0; index < header.e_phnum; ++index) {
        const auto segment = read<Elf64_Phdr>(image, header.e_phoff, index);
        if (!extent.cover(segment.p_offset, segment.p_filesz)) return hipErrorInvalidImage;
    }
    for (uint64_t index = 0; index < header.e_shnum; ++index) {
        const auto section = read<Elf64_Shdr>(image, header.e_shoff, index);
        if (section.sh_type == SHT_NOBITS) continue;
        if (!extent.cover(section.sh_offset, section.sh_size)) return hipErrorInvalidImage;
    }
    *bytes = extent.end();
    return hipSuccess;
}

}  // namespace hipcomm::cpu
