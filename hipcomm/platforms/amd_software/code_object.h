// AMD code objects: what is in the file, and the kernels in it.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "instruction.h"
#include "target.h"

namespace hipcomm::amd {

class CodeObject;

// What the kernel descriptor says, and the instructions.
struct Kernel {
    std::string name;
    const Target* target = nullptr;
    const CodeObject* object = nullptr;
    uint32_t shared_bytes = 0;
    uint32_t scratch_bytes = 0;
    uint32_t argument_bytes = 0;
    uint32_t vectors = 0;        // that it has declared
    uint32_t mode = 0;           // rounding and denormals
    bool is_ieee = true;
    uint16_t setup = 0;  // which registers the hardware fills in: the descriptor's kernel_code_properties
    uint8_t user_scalars = 0;
    uint8_t preloaded = 0;       // words of the arguments, in scalar registers from the start
    uint8_t preloaded_from = 0;
    bool has_hidden_arguments = false;
    bool wants_block[3] = {};    // block index in x, y, z
    std::vector<uint32_t> argument_offsets, argument_sizes;
    uint64_t code = 0, code_bytes = 0, entry = 0;

    // Decodes it and looks for hazards, at the first launch: most kernels of an object are never launched.
    void decode() const;
    mutable std::once_flag is_decoded;
    mutable uint32_t first = 0;  // position of the first instruction
    mutable std::vector<Instruction> instructions;
    mutable std::deque<Instruction> second_halves;
};

class CodeObject : public std::enable_shared_from_this<CodeObject> {
public:
    // Null, and why in `error`, where the image is none of the target's.
    static std::shared_ptr<CodeObject> load(const void* image, size_t available, const Target& target,
                                            std::string& error);

    // The kernel of this name; null where there is none. It keeps the object alive.
    std::shared_ptr<const Kernel> find(const std::string& name);

    const uint8_t* memory() const { return memory_.data(); }
    size_t bytes() const { return memory_.size(); }
    std::vector<std::string> kernel_names() const;

private:
    struct Symbol {
        uint64_t value, bytes;
    };
    explicit CodeObject(const Target& target) : target_(target) {}
    bool read(const uint8_t* image, size_t available, std::string& error);
    std::unique_ptr<const Kernel> make(const std::string& name, const Symbol& descriptor, const Symbol& code);

    const Target& target_;
    std::vector<uint8_t> memory_;  // as the loader lays it out
    std::vector<uint8_t> notes_;   // the metadata
    std::map<std::string, Symbol> symbols_;
    std::mutex mutex_;
    std::map<std::string, std::unique_ptr<const Kernel>> kernels_;
};

// The arguments of a kernel as the metadata has them. False: there is no such kernel in them.
bool read_arguments(const std::vector<uint8_t>& notes, Kernel& kernel);

}  // namespace hipcomm::amd
