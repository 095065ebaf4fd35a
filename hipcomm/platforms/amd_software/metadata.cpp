// The metadata note of a code object: MessagePack, of which this reads what a launch has to know.
#include <cstring>

#include "code_object.h"
#include "fault.h"

namespace hipcomm::amd {
namespace {

// A value: text, a number, or a list or map whose members follow.
struct Value {
    enum Kind { kText, kNumber, kList, kMap, kOther } kind = kOther;
    std::string text;
    uint64_t number = 0;  // of a list or map: how many members
};

class Reader {
public:
    explicit Reader(const std::vector<uint8_t>& bytes) : bytes_(bytes) {}

    Value next() {
        const uint8_t tag = take(1)[0];
        if (tag < 0x80) return number(tag);
        if (tag < 0x90) return members(Value::kMap, tag & 15);
        if (tag < 0xa0) return members(Value::kList, tag & 15);
        if (tag < 0xc0) return text(tag & 31);
        switch (tag) {
            case 0xc2:
            case 0xc3: return number(tag & 1);
            case 0xcc: return number(big_endian(1));
            case 0xcd: return number(big_endian(2));
            case 0xce: return number(big_endian(4));
            case 0xcf: return number(big_endian(8));
            case 0xd9: return text(big_endian(1));
            case 0xda: return text(big_endian(2));
            case 0xdb: return text(big_endian(4));
            case 0xdc: return members(Value::kList, big_endian(2));
            case 0xdd: return members(Value::kList, big_endian(4));
            case 0xde: return members(Value::kMap, big_endian(2));
            case 0xdf: return members(Value::kMap, big_endian(4));
            default: refuse("the metadata has a value of type %#x, which is not read", tag);
        }
    }
    void skip() {
        const Value value = next();
        const uint64_t count = value.kind == Value::kMap    ? 2 * value.number
                               : value.kind == Value::kList ? value.number
                                                            : 0;
        for (uint64_t index = 0; index < count; ++index) skip();
    }

private:
    const uint8_t* take(uint64_t count) {
        if (count > bytes_.size() - position_) refuse("the metadata is cut short");
        const uint8_t* const here = bytes_.data() + position_;
        position_ += count;
        return here;
    }
    uint64_t big_endian(unsigned count) {
        const uint8_t* const here = take(count);
        uint64_t value = 0;
        for (unsigned index = 0; index < count; ++index) value = value << 8 | here[index];
        return value;
    }
    static Value number(uint64_t value) { return {Value::kNumber, {}, value}; }
    static Value members(Value::Kind kind, uint64_t count) { return {kind, {}, count}; }
    Value text(uint64_t count) {
        const uint8_t* const here = take(count);
        return {Value::kText, std::string(here, here + count), 0};
    }

    const std::vector<uint8_t>& bytes_;
    size_t position_ = 0;
};

void read_argument(Reader& reader, Kernel& kernel) {
    uint64_t offset = 0, size = 0;
    bool is_hidden = false;
    for (uint64_t left = reader.next().number; left > 0; --left) {
        const std::string key = reader.next().text;
        if (key == ".offset") offset = reader.next().number;
        else if (key == ".size") size = reader.next().number;
        else if (key == ".value_kind") is_hidden = reader.next().text.rfind("hidden_", 0) == 0;
        else reader.skip();
    }
    if (is_hidden) {
        kernel.has_hidden_arguments = true;
        return;
    }
    kernel.argument_offsets.push_back(uint32_t(offset));
    kernel.argument_sizes.push_back(uint32_t(size));
}

// Reads one kernel's map; its arguments are kept where it is the one asked for.
bool read_kernel(Reader& reader, Kernel& kernel) {
    Kernel found;
    for (uint64_t left = reader.next().number; left > 0; --left) {
        const std::string key = reader.next().text;
        if (key == ".name") {
            found.name = reader.next().text;
        } else if (key == ".args") {
            for (uint64_t count = reader.next().number; count > 0; --count) read_argument(reader, found);
        } else {
            reader.skip();
        }
    }
    if (found.name != kernel.name) return false;
    kernel.has_hidden_arguments = found.has_hidden_arguments;
    kernel.argument_offsets = found.argument_offsets;
    kernel.argument_sizes = found.argument_sizes;
    return true;
}

}  // namespace

bool read_arguments(const std::vector<uint8_t>& notes, Kernel& kernel) {
    if (notes.empty()) return false;
    Reader reader(notes);
    bool is_found = false;
    for (uint64_t left = reader.next().number; left > 0; --left) {
        if (reader.next().text == "amdhsa.kernels") {
            for (uint64_t count = reader.next().number; count > 0; --count)
                is_found |= read_kernel(reader, kernel);
        } else {
            reader.skip();
        }
    }
    return is_found;
}

}  // namespace hipcomm::amd
