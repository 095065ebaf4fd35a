// The encodings of all architectures, from gfx9.def and gfx12.def.
#include "encodings.h"

#include <cstring>
#include <string>
#include <unordered_map>

namespace hipcomm::amd {
namespace {

struct Row {
    Format format;
    uint16_t opcode;
    uint16_t targets;
    const char* name;
    const char* operation;
};

constexpr uint16_t kGfx9 = kGfx90a | kGfx942 | kGfx950;
constexpr uint16_t kGfx94 = kGfx942 | kGfx950;
constexpr uint16_t kGfx12 = kGfx1201 | kGfx1250;

#define ENCODING(format, opcode, targets, name, operation) \
    {Format::format, opcode, targets, #name, #operation},
constexpr Row kRows[] = {
#include "gfx9.def"
#include "gfx9_memory.def"
#include "gfx12.def"
#include "gfx12_memory.def"
};

using Operations_by_name = std::unordered_map<std::string, const Operation*>;

const Operations_by_name& operations_by_name() {
    static const Operations_by_name all = [] {
        Operations_by_name result;
        for (const Operations& part : {vector_operations(), lane_operations(), packed_operations(),
                                       scalar_operations(), memory_operations()})
            for (size_t index = 0; index < part.count; ++index)
                result.emplace(part.first[index].name, part.first + index);
        return result;
    }();
    return all;
}

uint32_t key(uint16_t target, Format format, unsigned opcode) {
    return uint32_t(target) << 24 | uint32_t(format) << 16 | opcode;
}

}  // namespace

const Operation* find_operation(const char* name) {
    const auto found = operations_by_name().find(name);
    return found == operations_by_name().end() ? nullptr : found->second;
}

const Encoding* find_encoding(const Target& target, Format format, unsigned opcode) {
    static const std::unordered_map<uint32_t, Encoding> all = [] {
        std::unordered_map<uint32_t, Encoding> result;
        for (const Row& row : kRows) {
            const Operation* const operation = find_operation(row.operation);
            if (operation == nullptr) continue;
            for (uint16_t bit = 1; bit <= kGfx1250; bit = uint16_t(bit << 1))
                if (row.targets & bit) result[key(bit, row.format, row.opcode)] = {row.name, operation};
        }
        return result;
    }();
    const auto found = all.find(key(target.bit, format, opcode));
    return found == all.end() ? nullptr : &found->second;
}

}  // namespace hipcomm::amd
