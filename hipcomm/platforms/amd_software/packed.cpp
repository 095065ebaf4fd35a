// Packed arithmetic: the table of packed.def.
#include "lanes.h"

namespace hipcomm::amd {
namespace {

// One part of a source, in all lanes. A constant has one half, or one word, and nothing in the other.
void take_part(const Wave& wave, const Instruction& instruction, unsigned index, unsigned part, bool halves,
               Register& out) {
    const Operand& operand = instruction.sources[index];
    const u8 select = part == 0 ? instruction.select_low : instruction.select_high;
    const u8 negate = part == 0 ? instruction.negate_low : instruction.negate_high;
    const unsigned chosen = select >> index & 1;
    if (operand.place == Place::kConstant && !halves && chosen != 0)
        refuse("the high word of a packed constant");
    if (!halves && operand.place != Place::kConstant) {
        if (operand.place == Place::kVector) {
            std::memcpy(out, wave.vectors[operand.index + chosen], sizeof out);
        } else {
            const u32 word = wave.scalars[operand.index + chosen];
            for (u32& lane : out) lane = word;
        }
    } else {
        Source source;
        alignas(64) Register scratch[2];
        fetch(wave, operand, scratch, source);
        const bool has_high = operand.place != Place::kConstant || operand.is_literal;
        for (unsigned lane = 0; lane < kMaxLanes; ++lane) {
            const u32 word = source.low[lane];
            out[lane] = !halves ? word : chosen == 0 ? word & 0xffff : has_high ? word >> 16 : 0;
        }
    }
    if (negate >> index & 1)
        for (u32& lane : out) lane ^= halves ? 0x8000u : 0x80000000u;
}

template <auto compute>
struct Packed;

template <class T, class... S, T (*compute)(S...)>
struct Packed<compute> {
    static constexpr bool kHalves = sizeof(T) == 2;
    static constexpr size_t kCount = sizeof...(S);

    template <size_t... I>
    static void part(const Wave& wave, const Instruction& instruction, unsigned which, Register& out,
                     std::index_sequence<I...>) {
        alignas(64) Register parts[kCount], unused;
        Source sources[kCount];
        for (unsigned index = 0; index < kCount; ++index) {
            take_part(wave, instruction, index, which, kHalves, parts[index]);
            sources[index].low = parts[index];
        }
        for (unsigned lane = 0; lane < kMaxLanes; ++lane)
            write_lane(out, unused, lane, compute(read_lane<S>(sources[I], lane)...));
    }

    static void execute(Wave& wave, const Instruction& instruction) {
        const u64 exec = wave.exec();
        alignas(64) Register low, high;
        part(wave, instruction, 0, low, std::make_index_sequence<kCount>());
        part(wave, instruction, 1, high, std::make_index_sequence<kCount>());
        if (kHalves)
            for (unsigned lane = 0; lane < kMaxLanes; ++lane) low[lane] |= high[lane] << 16;
        commit(wave, instruction, exec, low, high);
    }

    static constexpr Operation describe(const char* name) {
        constexpr Type type = kHalves ? LaneType<T>::kType : Type::kB64;
        return {name,
                &execute,
                kHalves ? Type::kB32 : Type::kB64,
                false,
                uint8_t(kCount),
                {(static_cast<void>(sizeof(S)), type)...},
                kVector | kPacked,
                0,
                0};
    }
};

// Each word of the result is a word of its own source, chosen by op_sel.
void move_pair(Wave& wave, const Instruction& instruction) {
    const u64 exec = wave.exec();
    alignas(64) Register words[2];
    for (unsigned index = 0; index < 2; ++index) {
        const Operand& operand = instruction.sources[index];
        const unsigned chosen = instruction.select_low >> index & 1;
        Operand part = operand;
        part.type = Type::kB32;
        if (operand.place != Place::kConstant) part.index = u16(operand.index + chosen);
        Source source;
        alignas(64) Register scratch[2];
        fetch(wave, part, scratch, source);
        std::memcpy(words[index], source.low, sizeof(Register));
    }
    commit(wave, instruction, exec, words[0], words[1]);
}

// A fused multiply-add of float32 and halves of registers: op_sel_hi says which are halves, op_sel of which
// half, and what negates high halves elsewhere takes the absolute value.
template <bool to_half>
void mix(Wave& wave, const Instruction& instruction) {
    const u64 exec = wave.exec();
    alignas(64) Register words[3], low, high;
    for (unsigned index = 0; index < 3; ++index) {
        const Operand& operand = instruction.sources[index];
        const bool is_half = instruction.select_high >> index & 1;
        if (is_half && operand.place == Place::kConstant) refuse("a constant half of a mixed multiply-add");
        Source source;
        alignas(64) Register scratch[2];
        fetch(wave, operand, scratch, source);
        const unsigned shift = instruction.select_low >> index & 1 ? 16 : 0;
        for (unsigned lane = 0; lane < kMaxLanes; ++lane) {
            u32 word = source.low[lane];
            if (is_half) word = bits_of(quiet(half_to_float(u16(word >> shift))));
            if (instruction.negate_high >> index & 1) word &= 0x7fffffff;
            if (instruction.negate_low >> index & 1) word ^= 0x80000000;
            words[index][lane] = word;
        }
    }
    for (unsigned lane = 0; lane < kMaxLanes; ++lane) {
        const f32 value = std::fma(bit_cast<f32>(words[0][lane]), bit_cast<f32>(words[1][lane]),
                                   bit_cast<f32>(words[2][lane]));
        low[lane] = to_half ? float_to_half(value) : bits_of(value);
    }
    commit(wave, instruction, exec, low, high);
}

#define HALVES2(name, T, expression) T name(T a, T b) { return expression; }
#define HALVES3(name, T, expression) T name(T a, T b, T c) { return expression; }
#define PAIRS2 HALVES2
#define PAIRS3 HALVES3
#include "packed.def"
#undef HALVES2
#undef HALVES3
#define HALVES2(name, T, expression) Packed<&name>::describe(#name),
#define HALVES3(name, T, expression) Packed<&name>::describe(#name),
constexpr Operation kOperations[] = {
#include "packed.def"
    // the last: which part of the result's register is written
    {"v_fma_mix_f32", &mix<false>, Type::kF32, false, 3, {Type::kB32, Type::kB32, Type::kB32}, kVector, 0, 0},
    {"v_fma_mixlo_f16", &mix<true>, Type::kF16, false, 3, {Type::kB32, Type::kB32, Type::kB32}, kVector, 0,
     4},
    {"v_fma_mixhi_f16", &mix<true>, Type::kF16, false, 3, {Type::kB32, Type::kB32, Type::kB32}, kVector, 0,
     5},
    {"v_pk_mov_b32", &move_pair, Type::kB64, false, 2, {Type::kB64, Type::kB64}, kVector | kPacked, 0, 0},
};

}  // namespace

Operations packed_operations() { return {kOperations, sizeof kOperations / sizeof *kOperations}; }

}  // namespace hipcomm::amd
