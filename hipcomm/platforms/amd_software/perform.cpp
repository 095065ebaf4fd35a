// One lane of a memory operation happens.
#include "device_memory.h"
#include "execution.h"
#include "memory.h"

namespace hipcomm::amd {
namespace {

constexpr unsigned kMostAtomicBytes = 8;  // the widest access that the memory model promises not to tear

u8* shared_at(Wave& wave, u64 address, unsigned bytes) {
    std::vector<u8>& shared = wave.block->shared;
    const u64 offset = u32(address);
    if (offset + bytes > shared.size())
        refuse("LDS: %u bytes at %llu, and the block has %zu", bytes, static_cast<unsigned long long>(offset),
               shared.size());
    if (bytes >= 4 && offset % 4 != 0)
        refuse("LDS: an access of %u bytes at %llu is misaligned", bytes,
               static_cast<unsigned long long>(offset));
    return shared.data() + offset;
}

// Writes what was loaded into the lane of the result, as the kind of load wants it.
void write_result(Wave& wave, const Instruction& instruction, unsigned first, unsigned bytes, unsigned lane,
                  const u8* data) {
    u32 words[4] = {};
    std::memcpy(words, data, bytes);
    switch (instruction_kind(instruction)) {
        case kSigned: words[0] = bytes == 1 ? u32(i32(int8_t(words[0]))) : u32(i32(i16(words[0]))); break;
        case kSignedLow:
        case kSignedHigh: words[0] = u16(i16(int8_t(words[0]))); break;
        default: break;
    }
    u32& low = wave.vectors[first][lane];
    switch (instruction_kind(instruction)) {
        case kLow:
        case kSignedLow: low = (low & 0xffff0000u) | words[0]; return;
        case kHigh:
        case kSignedHigh: low = (low & 0xffff) | words[0] << 16; return;
        default: break;
    }
    for (unsigned word = 0; word < (bytes + 3) / 4; ++word) wave.vectors[first + word][lane] = words[word];
}

u64 changed(u8 kind, u64 old, u64 value, u64 comparand) {
    switch (kind) {
        case kSwap: return value;
        case kCompareSwap: return old == comparand ? value : old;
        case kAdd: return old + value;
        case kSubtract: return old - value;
        case kAnd: return old & value;
        case kOr: return old | value;
        case kXor: return old ^ value;
        case kMinimum: return std::min(old, value);
        case kMaximum: return std::max(old, value);
        default: refuse("this atomic operation is not known");
    }
}

void perform_shared(Wave& wave, Access& access, unsigned lane) {
    const Instruction& instruction = *access.instruction;
    const unsigned bytes = access.bytes, words = (bytes + 3) / 4;
    const unsigned places = instruction.operation->traits & kPacked ? 2 : 1;
    for (unsigned place = 0; place < places; ++place) {
        u64 address = access.addresses[lane];
        if (place == 1) address += u64(i64(instruction.second_offset - instruction.offset));
        u8* const at = shared_at(wave, address, bytes);
        if (access.action == Action::kLoad) {
            write_result(wave, instruction, instruction.result.index + place * words, bytes, lane, at);
        } else if (access.action == Action::kStore) {
            u32 data[4];
            for (unsigned word = 0; word < words; ++word)
                data[word] = access.data[place * words + word][lane];
            std::memcpy(at, data, bytes);
        } else {
            u32 old;
            std::memcpy(&old, at, sizeof old);
            const u32 now = u32(changed(instruction.operation->kind, old, access.data[0][lane], 0));
            std::memcpy(at, &now, sizeof now);
            if (instruction.result.place == Place::kVector)
                wave.vectors[instruction.result.index][lane] = old;
        }
    }
}

// The first-level cache of a wave. The waves of a block share one on gfx9; on gfx12 they are on the two
// compute units of a WGP, each with its own.
u32 first_level_of(const Wave& wave) {
    return wave.target->family == Family::kGfx9 ? wave.block->index : 2 * wave.block->index + wave.number % 2;
}

}  // namespace

void perform(Wave& wave, Access& access, unsigned lane) {
    const u64 bit = 1ull << lane;
    const Instruction& instruction = *access.instruction;
    DeviceMemory& memory = wave.launch->memory();
    const bool is_torn = access.bytes > kMostAtomicBytes && !access.is_shared && memory.is_weak();
    const bool is_first = is_torn && (access.begun & bit) == 0;
    if (is_first) access.begun |= bit;
    else access.lanes &= ~bit;
    if (access.action == Action::kCache) {
        memory.cache_operation(first_level_of(wave), instruction.operation->kind, instruction.scope);
        return;
    }
    if (access.is_shared) return perform_shared(wave, access, lane);
    const unsigned begin = is_torn && is_first == access.upper_first ? kMostAtomicBytes : 0;
    const unsigned bytes = !is_torn ? access.bytes : begin == 0 ? kMostAtomicBytes : access.bytes - begin;
    const u64 address = access.addresses[lane] + begin;
    if (access.action == Action::kLoad) {
        u8 data[16];
        memory.load(first_level_of(wave), address, bytes, instruction.scope, data);
        write_result(wave, instruction, instruction.result.index + begin / 4, bytes, lane, data);
        // Lanes that all load one address get one value: LLVM takes such a load for uniform, and leaves a loop when any
        // lane has seen what it waits for (recv on gfx1201, whose lanes then differed).
        if (!is_torn && access.end - access.begin == access.bytes)
            for (; access.lanes != 0; access.lanes &= access.lanes - 1)
                write_result(wave, instruction, instruction.result.index, bytes,
                             unsigned(__builtin_ctzll(access.lanes)), data);
    } else if (access.action == Action::kStore) {
        u32 data[4];
        for (unsigned word = 0; word < (bytes + 3) / 4; ++word)
            data[word] = access.data[begin / 4 + word][lane];
        memory.store(first_level_of(wave), address, bytes, instruction.scope,
                     reinterpret_cast<const u8*>(data));
    } else {
        u64 value = access.data[0][lane], comparand = 0;
        if (bytes == 8) {
            value |= u64(access.data[1][lane]) << 32;
            comparand = access.data[2][lane] | u64(access.data[3][lane]) << 32;
        } else {
            comparand = access.data[1][lane];
        }
        const u64 old = memory.atomic(first_level_of(wave), address, bytes, instruction.operation->kind,
                                      value, comparand);
        if (instruction.returns)
            write_result(wave, instruction, instruction.result.index, bytes, lane,
                         reinterpret_cast<const u8*>(&old));
    }
}

// ---- the machine's memory -------------------------------------------------------------------------

void load_words(u64 address, unsigned bytes, u8* out) {
    const auto at = [&](unsigned offset) { return reinterpret_cast<const u8*>(address + offset); };
    if (bytes == 4 && address % 4 == 0) {
        const u32 value = __atomic_load_n(reinterpret_cast<const u32*>(at(0)), __ATOMIC_RELAXED);
        std::memcpy(out, &value, 4);
    } else if (bytes % 8 == 0 && address % 8 == 0) {
        for (unsigned offset = 0; offset < bytes; offset += 8) {
            const u64 value = __atomic_load_n(reinterpret_cast<const u64*>(at(offset)), __ATOMIC_RELAXED);
            std::memcpy(out + offset, &value, 8);
        }
    } else if (bytes % 4 == 0 && address % 4 == 0) {
        for (unsigned offset = 0; offset < bytes; offset += 4) {
            const u32 value = __atomic_load_n(reinterpret_cast<const u32*>(at(offset)), __ATOMIC_RELAXED);
            std::memcpy(out + offset, &value, 4);
        }
    } else {
        std::memcpy(out, at(0), bytes);
    }
}

void store_words(u64 address, unsigned bytes, const u8* data) {
    const auto at = [&](unsigned offset) { return reinterpret_cast<u8*>(address + offset); };
    if (bytes % 8 == 0 && address % 8 == 0) {
        for (unsigned offset = 0; offset < bytes; offset += 8) {
            u64 value;
            std::memcpy(&value, data + offset, 8);
            __atomic_store_n(reinterpret_cast<u64*>(at(offset)), value, __ATOMIC_RELAXED);
        }
    } else if (bytes % 4 == 0 && address % 4 == 0) {
        for (unsigned offset = 0; offset < bytes; offset += 4) {
            u32 value;
            std::memcpy(&value, data + offset, 4);
            __atomic_store_n(reinterpret_cast<u32*>(at(offset)), value, __ATOMIC_RELAXED);
        }
    } else {
        std::memcpy(at(0), data, bytes);
    }
}

u64 atomic_word(u64 address, unsigned bytes, u8 kind, u64 value, u64 comparand) {
    const auto go = [&](auto* word) {
        using T = std::remove_reference_t<decltype(*word)>;
        T old = __atomic_load_n(word, __ATOMIC_SEQ_CST);
        while (!__atomic_compare_exchange_n(word, &old, T(changed(kind, old, T(value), T(comparand))), false,
                                            __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        }
        return u64(old);
    };
    return bytes == 8 ? go(reinterpret_cast<u64*>(address)) : go(reinterpret_cast<u32*>(address));
}

}  // namespace hipcomm::amd
