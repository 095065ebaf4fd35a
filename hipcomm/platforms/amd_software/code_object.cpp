// Loading a code object: segments, symbols, descriptors; decoding a kernel.
#include "code_object.h"

#include <elf.h>

#include <cstring>
#include <unordered_map>

#include "../cpu/elf_image.h"
#include "decoder.h"
#include "fault.h"
#include "hazards.h"

namespace hipcomm::amd {
namespace {

constexpr uint16_t kMachineAmdgpu = 224;  // EM_AMDGPU
constexpr uint32_t kMachineMask = 0xff;   // EF_AMDGPU_MACH
constexpr uint32_t kNoteMetadata = 32;    // NT_AMDGPU_METADATA

template <class T>
T at(const uint8_t* data, size_t offset) {
    T value;
    std::memcpy(&value, data + offset, sizeof value);
    return value;
}

}  // namespace

std::shared_ptr<CodeObject> CodeObject::load(const void* image, size_t available, const Target& target,
                                             std::string& error) {
    std::shared_ptr<CodeObject> object(new CodeObject(target));
    return object->read(static_cast<const uint8_t*>(image), available, error) ? object : nullptr;
}

bool CodeObject::read(const uint8_t* image, size_t available, std::string& error) {
    const auto header = at<Elf64_Ehdr>(image, 0);
    if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_machine != kMachineAmdgpu) {
        error = "the image is no AMD code object";
        return false;
    }
    if ((header.e_flags & kMachineMask) != target_.machine) {
        error = "the code object is for another architecture than " + std::string(target_.name);
        return false;
    }
    const auto holds = [&](uint64_t offset, uint64_t bytes) {
        return offset <= available && bytes <= available - offset;
    };
    if (!holds(header.e_phoff, uint64_t(header.e_phnum) * sizeof(Elf64_Phdr)) ||
        !holds(header.e_shoff, uint64_t(header.e_shnum) * sizeof(Elf64_Shdr))) {
        error = "the code object is cut short";
        return false;
    }
    constexpr uint64_t kLargest = 1ull << 30;
    for (unsigned pass = 0; pass < 2; ++pass) {
        for (unsigned index = 0; index < header.e_phnum; ++index) {
            const auto segment = at<Elf64_Phdr>(image, header.e_phoff + index * sizeof(Elf64_Phdr));
            if (segment.p_type != PT_LOAD) continue;
            const uint64_t end = segment.p_vaddr + segment.p_memsz;
            if (end > kLargest || segment.p_filesz > segment.p_memsz ||
                !holds(segment.p_offset, segment.p_filesz)) {
                error = "a segment of the code object lies outside";
                return false;
            }
            if (pass == 0) memory_.resize(std::max<size_t>(memory_.size(), end));
            else if (segment.p_filesz > 0)
                std::memcpy(memory_.data() + segment.p_vaddr, image + segment.p_offset, segment.p_filesz);
        }
    }
    for (unsigned index = 0; index < header.e_shnum; ++index) {
        const auto section = at<Elf64_Shdr>(image, header.e_shoff + index * sizeof(Elf64_Shdr));
        if (section.sh_type == SHT_NOBITS || section.sh_size == 0) continue;
        if (!holds(section.sh_offset, section.sh_size)) {
            error = "a section of the code object lies outside";
            return false;
        }
        if (section.sh_type == SHT_RELA || section.sh_type == SHT_REL) {
            error = "the code object has relocations, which nothing here resolves";
            return false;
        }
        if (section.sh_type == SHT_NOTE && section.sh_size > 12) {
            const auto name_bytes = at<uint32_t>(image, section.sh_offset);
            const auto bytes = at<uint32_t>(image, section.sh_offset + 4);
            const auto type = at<uint32_t>(image, section.sh_offset + 8);
            const uint64_t begin = section.sh_offset + 12 + (name_bytes + 3) / 4 * 4;
            if (type == kNoteMetadata && holds(begin, bytes))
                notes_.assign(image + begin, image + begin + bytes);
        }
        if (section.sh_type != SHT_DYNSYM || section.sh_link >= header.e_shnum) continue;
        const auto names = at<Elf64_Shdr>(image, header.e_shoff + section.sh_link * sizeof(Elf64_Shdr));
        for (uint64_t offset = 0; offset + sizeof(Elf64_Sym) <= section.sh_size;
             offset += sizeof(Elf64_Sym)) {
            const auto symbol = at<Elf64_Sym>(image, section.sh_offset + offset);
            if (symbol.st_name >= names.sh_size || !holds(names.sh_offset, names.sh_size)) continue;
            const char* const name = reinterpret_cast<const char*>(image + names.sh_offset + symbol.st_name);
            symbols_[std::string(name, strnlen(name, names.sh_size - symbol.st_name))] = {symbol.st_value,
                                                                                          symbol.st_size};
        }
    }
    return true;
}

std::vector<std::string> CodeObject::kernel_names() const {
    std::vector<std::string> names;
    for (const auto& entry : symbols_) {
        const std::string& name = entry.first;
        if (name.size() > 3 && name.compare(name.size() - 3, 3, ".kd") == 0)
            names.push_back(name.substr(0, name.size() - 3));
    }
    return names;
}

std::shared_ptr<const Kernel> CodeObject::find(const std::string& name) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto known = kernels_.find(name);
    if (known != kernels_.end()) return {shared_from_this(), known->second.get()};
    const auto descriptor = symbols_.find(name + ".kd");
    const auto code = symbols_.find(name);
    if (descriptor == symbols_.end() || code == symbols_.end()) return nullptr;
    auto& kept = kernels_[name] = make(name, descriptor->second, code->second);
    return {shared_from_this(), kept.get()};
}

std::unique_ptr<const Kernel> CodeObject::make(const std::string& name, const Symbol& descriptor,
                                               const Symbol& code) {
    if (descriptor.value + 64 > memory_.size() || code.value + code.bytes > memory_.size() ||
        code.bytes % 4 != 0)
        refuse("%s: its descriptor or its code lies outside of the code object", name.c_str());
    auto kernel = std::make_unique<Kernel>();
    kernel->object = this;
    kernel->name = name;
    kernel->target = &target_;
    const uint8_t* const words = memory_.data() + descriptor.value;
    kernel->shared_bytes = at<uint32_t>(words, 0);
    kernel->scratch_bytes = at<uint32_t>(words, 4);
    kernel->argument_bytes = at<uint32_t>(words, 8);
    const uint64_t entry = descriptor.value + uint64_t(at<int64_t>(words, 16));
    const auto first = at<uint32_t>(words, 48), second = at<uint32_t>(words, 52);  // COMPUTE_PGM_RSRC1 and 2
    const bool is_old = target_.family == Family::kGfx9;
    kernel->vectors = std::min<uint32_t>(target_.vectors, ((first & 63) + 1) * 8);
    kernel->mode = first >> 12 & 255;
    kernel->is_ieee = !is_old || (first >> 23 & 1) != 0;  // gfx12 has no such bit
    kernel->user_scalars = uint8_t(second >> 1 & (is_old ? 31 : 31));
    for (unsigned axis = 0; axis < 3; ++axis) kernel->wants_block[axis] = second >> (7 + axis) & 1;
    kernel->setup = at<uint16_t>(words, 56);
    const auto preload = at<uint16_t>(words, 58);
    kernel->preloaded = uint8_t(preload & 127);
    kernel->preloaded_from = uint8_t(preload >> 7);
    if (!read_arguments(notes_, *kernel))
        refuse("%s: the code object's metadata does not have it", name.c_str());

    kernel->code = code.value;
    kernel->code_bytes = code.bytes;
    kernel->entry = entry;
    return kernel;
}

void Kernel::decode() const {
    std::call_once(is_decoded, [this] {
        instructions.clear();
        second_halves.clear();
        std::unordered_map<uint32_t, uint32_t> positions;
        const uint32_t* const program = reinterpret_cast<const uint32_t*>(object->memory() + code);
        const unsigned count = unsigned(code_bytes / 4);
        for (unsigned index = 0; index < count;) {
            Instruction instruction;
            instruction.address = uint32_t(code + 4 * index);
            positions[instruction.address] = uint32_t(instructions.size());
            index += amd::decode(*target, program + index, count - index, instruction, second_halves);
            instructions.push_back(instruction);
        }
        for (Instruction& instruction : instructions) {
            if (!(instruction.operation->traits & kBranch)) continue;
            const auto found = positions.find(instruction.target);
            if (found == positions.end()) refuse("%s: a branch leads out of the kernel", name.c_str());
            instruction.target = found->second;
        }
        const auto start = positions.find(uint32_t(entry));
        if (start == positions.end()) refuse("%s: the entry point is none of its instructions", name.c_str());
        first = start->second;
        const std::string hazard = find_hazard(*this);
        if (!hazard.empty()) refuse("%s", hazard.c_str());
    });
}

}  // namespace hipcomm::amd
