// Memory instructions: the table of memory.def.
#include "memory.h"

#include <ctime>

#include "device_memory.h"
#include "execution.h"
#include "lanes.h"

namespace hipcomm::amd {
namespace {

bool is_flat(const Instruction& instruction) { return instruction.operation->name[0] == 'f'; }

u8 counters_of(const Wave& wave, const Instruction& instruction, bool is_load) {
    const u8* const counter = wave.target->counter;
    u8 bits = u8(1 << counter[is_load ? kLoads : kStores]);
    if (is_flat(instruction)) bits |= u8(1 << counter[kShared]);
    return bits;
}

unsigned result_registers(unsigned bytes) { return (bytes + 3) / 4; }

// Loads that one counter counts return in order, so a later one may write the register of an earlier one.
bool follows_in_order(const Wave& wave, unsigned index, u8 counters) {
    for (const Outstanding& entry : wave.outstanding) {
        const bool writes =
            !entry.is_scalar && index >= entry.first && index < unsigned(entry.first) + entry.count;
        if (writes && entry.counters != counters) return false;
    }
    return true;
}

// A load of half a register. On gfx9 the other half is undefined: with sramecc on it is cleared, else it is
// kept.
void begin_half(Wave& wave, unsigned index, u64 lanes, u32 half) {
    for (u64 left = lanes; left != 0; left &= left - 1) {
        const unsigned lane = unsigned(__builtin_ctzll(left));
        const u32 undefined =
            wave.target->family == Family::kGfx9 ? ~half : undefined_bits(wave, index, lane) & ~half;
        set_undefined_bits(wave, index, lane, undefined);
    }
}

void begin_load(Wave& wave, const Instruction& instruction, unsigned first, unsigned count, u64 lanes,
                u8 counters) {
    const u8 kind = instruction.operation->traits & kStore ? u8(kPlain) : instruction_kind(instruction);
    for (unsigned index = first; index < first + count; ++index) {
        if (index >= wave.vector_count ||
            (wave.pending[index] != 0 && !follows_in_order(wave, index, counters)))
            refuse_vector_write(index);
        if (kind == kLow || kind == kSignedLow) begin_half(wave, index, lanes, 0xffff);
        else if (kind == kHigh || kind == kSignedHigh) begin_half(wave, index, lanes, 0xffff0000u);
        else wave.partial[index] &= ~lanes;
        wave.readable[index] &= ~lanes;
        ++wave.pending[index];
    }
}

void retire(Wave& wave, Outstanding& entry) {
    wave.launch->finish(wave, entry);
    for (unsigned index = entry.first; index < unsigned(entry.first) + entry.count; ++index) {
        if (entry.is_scalar) {
            wave.pending_scalars[index / 64] &= ~(1ull << index % 64);
            wave.readable_scalars[index / 64] |= 1ull << index % 64;
        } else {
            wave.arrived[index] |= entry.lanes;
            if (--wave.pending[index] > 0) continue;
            for (u64 left = wave.arrived[index] & wave.partial[index]; left != 0; left &= left - 1) {
                const unsigned lane = unsigned(__builtin_ctzll(left));
                if (wave.undefined_vectors[index][lane] != 0) wave.arrived[index] &= ~(1ull << lane);
            }
            wave.readable[index] |= wave.arrived[index];
            wave.arrived[index] = 0;
        }
    }
}

void wait_for(Wave& wave, unsigned counter, unsigned limit) {
    const u8 bit = u8(1 << counter);
    size_t count = 0;
    bool any_order = false;
    for (const Outstanding& entry : wave.outstanding) {
        count += (entry.counters & bit) != 0;
        any_order |= (entry.counters & bit) != 0 && entry.is_scalar;
    }
    if (count <= limit || (any_order && limit > 0))
        return;  // scalar loads return in any order: only 0 says anything
    size_t left = count - limit;
    for (Outstanding& entry : wave.outstanding) {
        if (left == 0) break;
        if ((entry.counters & bit) == 0) continue;
        --left;
        entry.counters &= u8(~bit);
        if (entry.counters == 0) retire(wave, entry);
    }
    auto& list = wave.outstanding;
    list.erase(std::remove_if(list.begin(), list.end(),
                              [](const Outstanding& entry) { return entry.counters == 0; }),
               list.end());
}

// Counts the operation, and does at once what the launch does not delay.
void issue(Wave& wave, Access& access, u8 counters, unsigned first, unsigned count) {
    if (count > 0) begin_load(wave, *access.instruction, first, count, access.lanes, counters);
    wave.launch->count(access);
    Outstanding entry = {access.instruction, counters, false, u16(first), u8(count), access.lanes, nullptr};
    access.begun = 0;
    access.upper_first = false;
    if (wave.launch->delays()) {
        entry.access = wave.launch->keep(access);
    } else {
        wave.launch->order(wave, access);
        while (access.lanes != 0) perform(wave, access, unsigned(__builtin_ctzll(access.lanes)));
    }
    wave.outstanding.push_back(entry);
    // The counters of vector memory have 6 bits: with so many outstanding the wave stalls.
    constexpr size_t kMostOutstanding = 63;
    if (wave.outstanding.size() > kMostOutstanding)
        for (unsigned counter = 0; counter < kCounters; ++counter)
            if (counters >> counter & 1) wait_for(wave, counter, kMostOutstanding);
}

const Operand& base_of(const Instruction& instruction) { return instruction.sources[2]; }

void find_addresses(Wave& wave, const Instruction& instruction, Access& access) {
    const bool flat = is_flat(instruction);
    const Operand& address = instruction.sources[0];
    const Operand& base = base_of(instruction);
    check_vector_read(wave, address.index, access.lanes);
    const Register& low = wave.vectors[address.index];
    const bool is_wide = base.place == Place::kNone;
    if (is_wide) check_vector_read(wave, address.index + 1u, access.lanes);
    const u64 scalar = is_wide ? 0 : read_operand(wave, base);
    const i64 offset = instruction.offset;
    for (u64 left = access.lanes; left != 0; left &= left - 1) {
        const unsigned lane = unsigned(__builtin_ctzll(left));
        u64 place = scalar + low[lane] + u64(offset);
        if (is_wide) place += u64(wave.vectors[address.index + 1][lane]) << 32;
        access.addresses[lane] = place;
    }
    access.begin = access.end = 0;
    if (access.lanes == 0) return;
    const unsigned first = unsigned(__builtin_ctzll(access.lanes));
    access.begin = access.addresses[first];
    access.is_shared = u32(access.addresses[first] >> 32) == kSharedAperture;
    for (u64 left = access.lanes; left != 0; left &= left - 1) {
        const u64 place = access.addresses[__builtin_ctzll(left)];
        access.begin = std::min(access.begin, place);
        access.end = std::max(access.end, place + access.bytes);
        const u32 aperture = u32(place >> 32);
        if (aperture == kScratchAperture) refuse("an access to scratch memory");
        if ((aperture == kSharedAperture) != access.is_shared) refuse("one flat access to LDS and to memory");
        if (access.is_shared && !flat) refuse("a global access to LDS");
        // Plain accesses may be unaligned (the compiler joins bytes); those that others look at may not.
        const bool is_watched = instruction.scope >= Scope::kAgent || access.action == Action::kAtomic;
        const unsigned alignment = is_watched && access.bytes <= 8 ? access.bytes : 1;
        if ((place & (alignment - 1)) != 0)
            refuse("an access of %u bytes at %#llx is misaligned", access.bytes,
                   static_cast<unsigned long long>(place));
    }
}

void load_vector(Wave& wave, const Instruction& instruction) {
    Access access;
    access.instruction = &instruction;
    access.action = Action::kLoad;
    access.bytes = instruction.operation->bytes;
    access.lanes = wave.exec();
    access.is_shared = false;
    find_addresses(wave, instruction, access);
    issue(wave, access, counters_of(wave, instruction, true), instruction.result.index,
          result_registers(access.bytes));
}

void read_data(Wave& wave, const Operand& operand, Access& access, unsigned first_word) {
    const bool is_high = instruction_kind(*access.instruction) == kHigh;
    const u32 stored = (access.bytes == 1 ? 0xffu : access.bytes == 2 ? 0xffffu : ~0u) << (is_high ? 16 : 0);
    for (unsigned word = 0; word < result_registers(access.bytes); ++word) {
        check_vector_read(wave, operand.index + word, access.lanes, stored);
        std::memcpy(access.data[first_word + word], wave.vectors[operand.index + word], sizeof(Register));
    }
    if (is_high)
        for (u32& value : access.data[0]) value >>= 16;
}

void store_vector(Wave& wave, const Instruction& instruction) {
    Access access;
    access.instruction = &instruction;
    access.action = Action::kStore;
    access.bytes = instruction.operation->bytes;
    access.lanes = wave.exec();
    access.is_shared = false;
    find_addresses(wave, instruction, access);
    read_data(wave, instruction.sources[1], access, 0);
    issue(wave, access, counters_of(wave, instruction, false), 0, 0);
}

void atomic_vector(Wave& wave, const Instruction& instruction) {
    Access access;
    access.instruction = &instruction;
    access.action = Action::kAtomic;
    access.bytes = instruction.operation->bytes;
    access.lanes = wave.exec();
    access.is_shared = false;
    find_addresses(wave, instruction, access);
    if (access.is_shared) refuse("a flat atomic in LDS is not known");
    read_data(wave, instruction.sources[1], access, 0);
    const unsigned words = result_registers(access.bytes);
    if (instruction.operation->kind == kCompareSwap) {
        for (unsigned word = 0; word < words; ++word) {
            check_vector_read(wave, instruction.sources[1].index + words + word, access.lanes);
            std::memcpy(access.data[words + word], wave.vectors[instruction.sources[1].index + words + word],
                        sizeof(Register));
        }
    }
    issue(wave, access, counters_of(wave, instruction, instruction.returns), instruction.result.index,
          instruction.returns ? words : 0);
}

// LDS: addresses of 32 bits. A second place is `second_offset` bytes further.
void find_shared_addresses(Wave& wave, const Instruction& instruction, Access& access) {
    const Operand& address = instruction.sources[0];
    check_vector_read(wave, address.index, access.lanes);
    for (u64 left = access.lanes; left != 0; left &= left - 1) {
        const unsigned lane = unsigned(__builtin_ctzll(left));
        access.addresses[lane] = u32(wave.vectors[address.index][lane] + u32(instruction.offset));
    }
}

Access shared_access(Wave& wave, const Instruction& instruction, Action action) {
    Access access;
    access.instruction = &instruction;
    access.action = action;
    access.is_shared = true;
    access.bytes = instruction.operation->bytes;
    access.lanes = wave.exec();
    find_shared_addresses(wave, instruction, access);
    return access;
}

u8 shared_counter(const Wave& wave) { return u8(1 << wave.target->counter[kShared]); }

void load_shared(Wave& wave, const Instruction& instruction) {
    Access access = shared_access(wave, instruction, Action::kLoad);
    const unsigned places = instruction.operation->traits & kPacked ? 2 : 1;
    issue(wave, access, shared_counter(wave), instruction.result.index,
          places * result_registers(access.bytes));
}

void store_shared(Wave& wave, const Instruction& instruction) {
    Access access = shared_access(wave, instruction, Action::kStore);
    read_data(wave, instruction.sources[1], access, 0);
    if (instruction.operation->traits & kPacked)
        read_data(wave, instruction.sources[2], access, result_registers(access.bytes));
    issue(wave, access, shared_counter(wave), 0, 0);
}

void atomic_shared(Wave& wave, const Instruction& instruction) {
    Access access = shared_access(wave, instruction, Action::kAtomic);
    read_data(wave, instruction.sources[1], access, 0);
    const bool returns = instruction.result.place == Place::kVector;
    issue(wave, access, shared_counter(wave), instruction.result.index, returns ? 1 : 0);
}

// Words change lanes through the LDS hardware, without touching LDS. Happens at once; the result has to be
// waited for.
void permute_shared(Wave& wave, const Instruction& instruction) {
    const u64 exec = wave.exec();
    const Operand& address = instruction.sources[0];
    const Operand& data = instruction.sources[1];
    check_vector_read(wave, address.index, exec);
    Register result = {};
    for (u64 left = exec; left != 0; left &= left - 1) {
        const unsigned lane = unsigned(__builtin_ctzll(left));
        const unsigned other =
            (wave.vectors[address.index][lane] + u32(instruction.offset)) / 4 % wave.target->lanes;
        if (instruction.operation->kind == kForward) {
            result[other] = wave.vectors[data.index][lane];
        } else {
            if (exec >> other & 1) check_vector_read(wave, data.index, 1ull << other);
            result[lane] = exec >> other & 1 ? wave.vectors[data.index][other] : 0;
        }
    }
    begin_load(wave, instruction, instruction.result.index, 1, exec, shared_counter(wave));
    for (unsigned lane = 0; lane < kMaxLanes; ++lane)
        if (exec >> lane & 1) wave.vectors[instruction.result.index][lane] = result[lane];
    wave.outstanding.push_back(
        {&instruction, shared_counter(wave), false, instruction.result.index, 1, exec, nullptr});
}

void load_scalar(Wave& wave, const Instruction& instruction) {
    u64 address = read_operand(wave, instruction.sources[0]) + u64(i64(instruction.offset));
    if (instruction.sources[1].place != Place::kNone)
        address += u32(read_operand(wave, instruction.sources[1]));
    const unsigned bytes = instruction.operation->bytes;
    if (bytes >= 4) address &= ~3ull;
    const unsigned words = result_registers(bytes);
    const unsigned first = instruction.result.index;
    for (unsigned word = 0; word < words; ++word) {
        const u32 value = wave.launch->memory().scalar_load((address & ~3ull) + 4 * word);
        wave.set_scalar(first + word, bytes == 1 ? value >> 8 * (address & 3) & 255 : value);
        wave.readable_scalars[(first + word) / 64] &= ~(1ull << (first + word) % 64);
        wave.pending_scalars[(first + word) / 64] |= 1ull << (first + word) % 64;
    }
    wave.outstanding.push_back(
        {&instruction, u8(1 << wave.target->counter[kScalars]), true, u16(first), u8(words), 0, nullptr});
    wave.launch->count_scalar(words);
}

void read_clock(Wave& wave, const Instruction& instruction) {
    constexpr u32 kRealTime = 0x83;  // the message whose answer is the clock
    if (instruction.operation->kind == kMessage && u32(instruction.sources[0].value) != kRealTime)
        refuse("this message is not known");
    const u64 ticks = wave.launch->clock();
    const unsigned first = instruction.result.index;
    for (unsigned word = 0; word < 2; ++word) {
        wave.set_scalar(first + word, u32(ticks >> 32 * word));
        wave.readable_scalars[(first + word) / 64] &= ~(1ull << (first + word) % 64);
        wave.pending_scalars[(first + word) / 64] |= 1ull << (first + word) % 64;
    }
    wave.outstanding.push_back(
        {&instruction, u8(1 << wave.target->counter[kScalars]), true, u16(first), 2, 0, nullptr});
}

void operate_caches(Wave& wave, const Instruction& instruction) {
    Access access;
    access.instruction = &instruction;
    access.action = Action::kCache;
    access.is_shared = false;
    access.bytes = 0;
    access.lanes = 1;
    access.addresses[0] = 0;
    const u8 kind = instruction.operation->kind;
    const bool is_store = kind == kWriteBack || kind == kWriteBackInvalidate;
    issue(wave, access, u8(1 << wave.target->counter[is_store ? kStores : kLoads]), 0, 0);
}

#define GLOBAL_LOAD(name, bytes, kind) {#name, &load_vector, Type::kB32, false, 0, {}, kMemory, bytes, kind},
#define FLAT_LOAD(name, bytes, kind) {#name, &load_vector, Type::kB32, false, 0, {}, kMemory, bytes, kind},
#define GLOBAL_STORE(name, bytes, kind) \
    {#name, &store_vector, Type::kNone, false, 0, {}, kMemory | kStore, bytes, kind},
#define FLAT_STORE(name, bytes, kind) \
    {#name, &store_vector, Type::kNone, false, 0, {}, kMemory | kStore, bytes, kind},
#define GLOBAL_ATOMIC(name, bytes, kind) \
    {#name, &atomic_vector, Type::kB32, false, 0, {}, kMemory | kStore, bytes, kind},
#define FLAT_ATOMIC(name, bytes, kind) \
    {#name, &atomic_vector, Type::kB32, false, 0, {}, kMemory | kStore, bytes, kind},
#define SHARED_LOAD(name, bytes, kind) {#name, &load_shared, Type::kB32, false, 0, {}, kMemory, bytes, kind},
#define SHARED_STORE(name, bytes, kind) \
    {#name, &store_shared, Type::kNone, false, 0, {}, kMemory | kStore, bytes, kind},
#define SHARED_LOAD2(name, bytes, unit) \
    {#name, &load_shared, Type::kB32, false, 0, {}, kMemory | kPacked, bytes, unit},
#define SHARED_STORE2(name, bytes, unit) \
    {#name, &store_shared, Type::kNone, false, 0, {}, kMemory | kStore | kPacked, bytes, unit},
#define SHARED_ATOMIC(name, bytes, kind) \
    {#name, &atomic_shared, Type::kNone, false, 0, {}, kMemory | kStore, bytes, kind},
#define SHARED_ATOMIC_RETURN(name, bytes, kind) \
    {#name, &atomic_shared, Type::kB32, false, 0, {}, kMemory | kStore, bytes, kind},
#define SHARED_PERMUTE(name, bytes, kind) \
    {#name, &permute_shared, Type::kB32, false, 0, {}, kMemory | kStore, bytes, kind},
#define SCALAR_LOAD(name, bytes, kind) {#name, &load_scalar, Type::kB32, false, 0, {}, kMemory, bytes, kind},
#define CLOCK(name, bytes, kind) {#name, &read_clock, Type::kB64, false, 0, {}, kMemory, bytes, kind},
#define CACHE(name, bytes, kind) {#name, &operate_caches, Type::kNone, false, 0, {}, kMemory, bytes, kind},
constexpr Operation kOperations[] = {
#include "memory.def"
};

// Whether a wait would have to take back what takes longer.
bool is_under_way(const Wave& wave, unsigned counter, unsigned limit) {
    const u8 bit = u8(1 << counter);
    size_t count = 0;
    for (const Outstanding& entry : wave.outstanding) count += (entry.counters & bit) != 0;
    for (const Outstanding& entry : wave.outstanding) {
        if (count <= limit) return false;
        if ((entry.counters & bit) == 0) continue;
        --count;
        if (entry.access != nullptr && entry.access->lanes != 0 && entry.access->age <= entry.access->hold)
            return true;
    }
    return false;
}

}  // namespace

void wait_for_counters(Wave& wave, const Instruction& instruction) {
    for (unsigned counter = 0; counter < kCounters; ++counter) {
        if (instruction.waits[counter] == kNoWait || !is_under_way(wave, counter, instruction.waits[counter]))
            continue;
        --wave.program_counter;
        wave.flow = Flow::kStall;
        return;
    }
    for (unsigned counter = 0; counter < kCounters; ++counter)
        if (instruction.waits[counter] != kNoWait) wait_for(wave, counter, instruction.waits[counter]);
}

void wait_for_all(Wave& wave) {
    for (unsigned counter = 0; counter < kCounters; ++counter) wait_for(wave, counter, 0);
}

u64 clock_ticks() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return u64(now.tv_sec) * 100000000ull + u64(now.tv_nsec) / 10;
}

Operations memory_operations() { return {kOperations, sizeof kOperations / sizeof *kOperations}; }

}  // namespace hipcomm::amd
