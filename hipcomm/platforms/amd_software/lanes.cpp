// Sources and results of vector instructions, with their modifiers.
#include "lanes.h"

namespace hipcomm::amd {
namespace {

void fill(Register& lanes, u32 value) {
    for (unsigned lane = 0; lane < kMaxLanes; ++lane) lanes[lane] = value;
}

u32 part_of(u32 value, unsigned part, bool sign_extend) {
    if (part < 4) {
        const u32 byte = value >> 8 * part & 255;
        return sign_extend ? u32(i32(int8_t(byte))) : byte;
    }
    const u32 word = value >> 16 * (part - 4) & 0xffff;
    return sign_extend ? u32(i32(i16(word))) : word;
}

// Applies parts, then absolute value, then negation, to copies.
void modify(const Operand& operand, Register (&scratch)[2], Source& source) {
    const bool is_wide = registers_of(operand.type) == 2;
    Register& top = scratch[is_wide ? 1 : 0];
    const bool is_half = operand.type == Type::kF16 || operand.type == Type::kB16;
    const u32 sign = is_half ? 0x8000u : 0x80000000u;
    for (unsigned lane = 0; lane < kMaxLanes; ++lane) {
        if (is_wide) scratch[0][lane] = source.low[lane];
        u32 value = is_wide ? source.high[lane] : source.low[lane];
        if (operand.part != 6) value = part_of(value, operand.part, operand.sign_extend);
        if (operand.absolute) value &= ~sign;
        if (operand.negate) value ^= sign;
        top[lane] = value;
    }
    source.low = scratch[0];
    source.high = scratch[1];
}

u32 clamped(u32 bits) {
    const f32 x = bit_cast<f32>(bits);
    return bits_of(x != x || x < 0 ? 0.0f : x > 1 ? 1.0f : x);
}

void adjust_float(const Instruction& instruction, Register& low, Register& high) {
    static constexpr f32 kFactors[] = {1, 2, 4, 0.5f};
    const f32 factor = kFactors[instruction.multiplier];
    if (instruction.result.type == Type::kF32) {
        for (unsigned lane = 0; lane < kMaxLanes; ++lane) {
            low[lane] = bits_of(bit_cast<f32>(low[lane]) * factor);
            if (instruction.clamp) low[lane] = clamped(low[lane]);
        }
    } else if (instruction.result.type == Type::kF64 && !instruction.clamp) {
        for (unsigned lane = 0; lane < kMaxLanes; ++lane) {
            const u64 bits = bits_of(bit_cast<f64>(low[lane] | u64(high[lane]) << 32) * factor);
            low[lane] = u32(bits);
            high[lane] = u32(bits >> 32);
        }
    } else {
        refuse("a clamped or multiplied result of this type is not known");
    }
}

// Puts a byte or a word into its place, and what belongs around it.
void place_part(const Register& old, unsigned part, unsigned unused, Register& low) {
    const unsigned bits = part < 4 ? 8 : 16;
    const unsigned shift = part < 4 ? 8 * part : 16 * (part - 4);
    const u32 mask = (bits == 8 ? 0xffu : 0xffffu) << shift;
    for (unsigned lane = 0; lane < kMaxLanes; ++lane) {
        u32 value = low[lane] << shift & mask;
        if (unused == 2) value |= old[lane] & ~mask;
        if (unused == 1) value = u32(i32(low[lane] << (32 - bits)) >> (32 - bits)) << shift;
        low[lane] = value;
    }
}

void write_register(Wave& wave, unsigned index, u64 exec, const Register& lanes) {
    check_vector_write(wave, index);
    Register& out = wave.vectors[index];
    if (exec == ~0ull) {
        std::memcpy(out, lanes, sizeof out);
    } else {
        for (unsigned lane = 0; lane < kMaxLanes; ++lane)
            out[lane] = exec >> lane & 1 ? lanes[lane] : out[lane];
    }
    wave.readable[index] |= exec;
}

}  // namespace

void fetch(const Wave& wave, const Operand& operand, Register (&scratch)[2], Source& source) {
    if (operand.type == Type::kMask) {
        source.mask = peek_operand(wave, operand);
        return;
    }
    const bool is_wide = registers_of(operand.type) == 2;
    switch (operand.place) {
        case Place::kVector:
            source.low = wave.vectors[operand.index];
            if (is_wide) source.high = wave.vectors[operand.index + 1];
            break;
        case Place::kNone: refuse("an operand is missing");
        default: {
            const u64 value = peek_operand(wave, operand);
            fill(scratch[0], u32(value));
            if (is_wide) fill(scratch[1], u32(value >> 32));
            source.low = scratch[0];
            source.high = scratch[1];
        }
    }
    if (__builtin_expect(operand.is_modified(), 0)) modify(operand, scratch, source);
}

void commit(Wave& wave, const Instruction& instruction, u64 exec, Register& low, Register& high) {
    const Operand& result = instruction.result;
    if (__builtin_expect(instruction.clamp || instruction.multiplier != 0, 0))
        adjust_float(instruction, low, high);
    if (instruction.result_part != 6) {
        place_part(wave.vectors[result.index], instruction.result_part, instruction.unused, low);
    } else if (instruction.keeps_rest) {
        place_part(wave.vectors[result.index], 4, 2, low);  // the other half is kept; gfx9 clears it
    }
    write_register(wave, result.index, exec, low);
    if (registers_of(result.type) == 2) write_register(wave, result.index + 1u, exec, high);
}

void commit_mask(Wave& wave, const Instruction& instruction, const Operand& operand, u64 exec, u64 mask) {
    if (operand.place == Place::kScalar) wave.set_mask(operand.index, mask & exec);
    if (instruction.operation->traits & kWritesExec) wave.set_exec(mask & exec);
}

}  // namespace hipcomm::amd
