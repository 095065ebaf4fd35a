// From the bits of a code object to instructions. Fields as in AMD's instruction set manuals.
#include "decoder.h"

#include <cstring>
#include <string>

#include "encodings.h"
#include "memory.h"
#include "numbers.h"
#include "wave.h"

namespace hipcomm::amd {
namespace {

constexpr u32 field(u64 word, unsigned high, unsigned low) {
    return u32(word >> low & ((1ull << (high - low + 1)) - 1));
}
constexpr i32 signed_field(u64 word, unsigned high, unsigned low) {
    return i32(field(word, high, low) << (31 - (high - low))) >> (31 - (high - low));
}

constexpr u32 kLiteral = 255, kSdwa = 249, kDpp = 250;

u64 inline_float(unsigned code, Type type) {
    static constexpr f64 kValues[] = {0.5, -0.5, 1, -1, 2, -2, 4, -4, 0.15915494309189532};
    const f64 value = kValues[code - 240];
    switch (type) {
        case Type::kF64:
        case Type::kB64: return bits_of(value);
        case Type::kF16:
        case Type::kB16: return float_to_half(f32(value));
        default: return code == 248 ? 0x3e22f983u : bits_of(f32(value));
    }
}

u64 literal_value(u32 literal, Type type) {
    if (type == Type::kF64) return u64(literal) << 32;
    return literal;
}

struct Decoder {
    const Target& target;
    const u32* words;
    unsigned count;
    Instruction& in;
    std::deque<Instruction>& extra;
    unsigned used = 1;
    bool is_known = true;

    u32 word(unsigned index) {
        if (index >= count) {
            is_known = false;
            return 0;
        }
        used = std::max(used, index + 1);
        return words[index];
    }
    u64 pair() { return words[0] | u64(word(1)) << 32; }

    static Operand constant(u64 value, Type type) {
        Operand operand;
        operand.place = Place::kConstant;
        operand.type = type;
        operand.value = value;
        return operand;
    }
    static Operand register_operand(Place place, unsigned index, Type type) {
        Operand operand;
        operand.place = place;
        operand.index = u16(index);
        operand.type = type;
        return operand;
    }
    static Operand vector(unsigned index, Type type) { return register_operand(Place::kVector, index, type); }

    // A source by its 9 bits; `at` is where a literal would be.
    Operand source(unsigned code, Type type, unsigned at) {
        if (code >= 256) return vector(code - 256, type);
        if (code == target.null) return constant(0, type);
        if (code < 128) return register_operand(Place::kScalar, code, type);
        if (code <= 192) return constant(code - 128, type);
        if (code <= 208) {
            const i64 value = 192 - i64(code);
            return constant(registers_of(type) == 2 || type == Type::kMask ? u64(value) : u32(value), type);
        }
        if (code >= 240 && code <= 248) return constant(inline_float(code, type), type);
        switch (code) {
            case 235: return constant(u64(kSharedAperture) << 32, type);
            case 237: return constant(u64(kScratchAperture) << 32, type);
            case 236:
            case 238: return constant(0xffffffff, type);
            case 253: return register_operand(Place::kScc, 0, type);
            case kLiteral: {
                Operand operand = constant(literal_value(word(at), type), type);
                operand.is_literal = true;
                return operand;
            }
            default: is_known = false; return {};
        }
    }

    Operand scalar_result(unsigned code, Type type) {
        if (code == target.null) return {};
        return register_operand(Place::kScalar, code, type);
    }

    bool look_up(Format format, unsigned opcode) {
        in.format = u8(format);
        const Encoding* const encoding = find_encoding(target, format, opcode);
        if (encoding == nullptr) {
            is_known = false;
            return false;
        }
        in.operation = encoding->operation;
        in.execute = encoding->operation->execute;
        in.name = encoding->name;
        return true;
    }
    const Operation& operation() const { return *in.operation; }
    Type type_of(unsigned index) const { return operation().sources[index]; }

    void accumulate() {
        if (operation().traits & kAccumulates) {
            Operand& last = in.sources[operation().source_count - 1];
            last = in.result;
            last.type = type_of(operation().source_count - 1u);
        }
    }

    // ---- scalar ------------------------------------------------------------------------------------

    void sop1() {
        if (!look_up(Format::SOP1, field(words[0], 15, 8))) return;
        in.result = scalar_result(field(words[0], 22, 16), operation().result);
        const unsigned code = field(words[0], 7, 0);
        if (operation().traits & kMemory ||
            operation().source_count == 0) {  // a message's number, or the barrier's
            in.sources[0] = constant(operation().traits & kMemory ? code
                                     : code == 193                ? ~0ull
                                                                  : code,
                                     Type::kB32);
        } else {
            in.sources[0] = source(code, type_of(0), 1);
        }
        accumulate();
    }
    void sop2() {
        if (!look_up(Format::SOP2, field(words[0], 29, 23))) return;
        in.result = scalar_result(field(words[0], 22, 16), operation().result);
        two_sources(source(field(words[0], 7, 0), type_of(0), 1), field(words[0], 15, 8), false);
    }
    // The sources of SOP2 and VOP2, some of which have a literal between them or behind them.
    void two_sources(const Operand& first, unsigned second, bool is_vector) {
        const unsigned code = is_vector ? second + 256 : second;
        in.sources[0] = first;
        if (operation().traits & kLiteralSecond) {
            in.sources[1] = constant(word(1), type_of(1));
            in.sources[2] = source(code, type_of(2), 1);
        } else {
            in.sources[1] = source(code, type_of(1), 1);
            if (operation().traits & kLiteralThird) in.sources[2] = constant(word(1), type_of(2));
        }
        accumulate();
    }
    void sopc() {
        if (!look_up(Format::SOPC, field(words[0], 22, 16))) return;
        in.sources[0] = source(field(words[0], 7, 0), type_of(0), 1);
        in.sources[1] = source(field(words[0], 15, 8), type_of(1), 1);
    }
    void sopk() {
        if (!look_up(Format::SOPK, field(words[0], 27, 23))) return;
        const Operand immediate = constant(u32(signed_field(words[0], 15, 0)), Type::kB32);
        const unsigned code = field(words[0], 22, 16);
        if (operation().result == Type::kNone) {  // a comparison
            in.sources[0] = source(code, type_of(0), 1);
            in.sources[1] = immediate;
            return;
        }
        in.result = scalar_result(code, operation().result);
        in.sources[0] = immediate;
        accumulate();
    }
    void sopp() {
        if (!look_up(Format::SOPP, field(words[0], 22, 16))) return;
        in.immediate = field(words[0], 15, 0);
        if (operation().traits & kBranch) in.target = in.address + 4 + u32(signed_field(words[0], 15, 0)) * 4;
        if (std::strcmp(operation().name, "s_waitcnt") == 0) waits();
    }
    void waits() {
        const u32 x = in.immediate;
        const auto limit = [&](Counter counter, u32 most) { in.waits[target.counter[counter]] = u8(most); };
        if (target.family == Family::kGfx9) {
            const u32 loads = field(x, 3, 0) | field(x, 15, 14) << 4;
            if (loads < 63) limit(kLoads, loads);
            if (field(x, 11, 8) < 15) limit(kShared, field(x, 11, 8));
            return;
        }
        struct Wait {
            const char* name;
            Counter counter;
            unsigned high, low;
        };
        static constexpr Wait kWaits[] = {
            {"s_wait_loadcnt", kLoads, 5, 0},         {"s_wait_storecnt", kStores, 5, 0},
            {"s_wait_dscnt", kShared, 5, 0},          {"s_wait_kmcnt", kScalars, 4, 0},
            {"s_wait_loadcnt_dscnt", kLoads, 13, 8},  {"s_wait_loadcnt_dscnt", kShared, 5, 0},
            {"s_wait_storecnt_dscnt", kStores, 13, 8}, {"s_wait_storecnt_dscnt", kShared, 5, 0},
        };
        for (const Wait& wait : kWaits)
            if (std::strcmp(wait.name, in.name) == 0) limit(wait.counter, field(x, wait.high, wait.low));
    }

    // ---- vector ------------------------------------------------------------------------------------

    Operand vector_result(unsigned code) {
        if (operation().traits & kReadsLane && operation().result != Type::kNone &&
            std::strncmp(operation().name, "v_read", 6) == 0)
            return scalar_result(code, operation().result);
        if (!(operation().traits & kVector)) return scalar_result(code, operation().result);  // v_s_rcp_f32
        return vector(code, operation().result);
    }
    Operand vcc() { return register_operand(Place::kScalar, kVcc, Type::kMask); }

    // The first source of VOP1, VOP2 and VOPC, which SDWA replaces.
    Operand first_source() {
        const unsigned code = field(words[0], 8, 0);
        if (code == kSdwa && target.family == Family::kGfx9) return sdwa_source(0);
        if (code == kDpp || code == kSdwa) is_known = false;
        return source(code, type_of(0), 1);
    }
    bool is_sdwa() const { return field(words[0], 8, 0) == kSdwa && target.family == Family::kGfx9; }
    Operand sdwa_source(unsigned index) {
        const u32 modifiers = word(1);
        const unsigned code = index == 0 ? field(modifiers, 7, 0) : field(words[0], 16, 9);
        const unsigned base = index == 0 ? 16 : 24;
        const bool is_scalar = field(modifiers, base + 7, base + 7) != 0;
        Operand operand = is_scalar ? source(code, type_of(index), 2) : vector(code, type_of(index));
        operand.part = u8(field(modifiers, base + 2, base));
        operand.sign_extend = field(modifiers, base + 3, base + 3) != 0;
        operand.negate = field(modifiers, base + 4, base + 4) != 0;
        operand.absolute = field(modifiers, base + 5, base + 5) != 0;
        return operand;
    }
    void sdwa_result() {
        const u32 modifiers = word(1);
        in.result_part = u8(field(modifiers, 10, 8));
        in.unused = u8(field(modifiers, 12, 11));
        in.clamp = field(modifiers, 13, 13) != 0;
        in.multiplier = u8(field(modifiers, 15, 14));
    }

    void vop1() {
        if (!look_up(Format::VOP1, field(words[0], 16, 9))) return;
        in.result = vector_result(field(words[0], 24, 17));
        in.sources[0] = first_source();
        if (is_sdwa()) sdwa_result();
    }
    void vop2() {
        if (!look_up(Format::VOP2, field(words[0], 30, 25))) return;
        in.result = vector_result(field(words[0], 24, 17));
        if (operation().carries) in.carry = vcc();
        if (is_sdwa()) {
            in.sources[0] = sdwa_source(0);
            in.sources[1] = sdwa_source(1);
            sdwa_result();
            accumulate();
        } else {
            two_sources(first_source(), field(words[0], 16, 9), true);
        }
        if (operation().source_count == 3 && type_of(2) == Type::kMask) in.sources[2] = vcc();
    }
    void vopc() {
        if (!look_up(Format::VOPC, field(words[0], 24, 17))) return;
        in.sources[0] = first_source();
        in.sources[1] = is_sdwa() ? sdwa_source(1) : vector(field(words[0], 16, 9), type_of(1));
        in.result = vcc();
        if (is_sdwa() && field(word(1), 15, 15))
            in.result = scalar_result(field(word(1), 14, 8), Type::kMask);
        compare_result();
    }
    void compare_result() {
        if (target.family == Family::kGfx12 && operation().traits & kWritesExec) in.result = {};
    }

    // VOP3 has opcodes of its own, and above 256 and 384 (gfx9: 320) those of VOP2 and VOP1.
    bool look_up_vop3(unsigned opcode) {
        const unsigned first_vop1 = target.family == Family::kGfx9 ? 320 : 384;
        if (find_encoding(target, Format::VOP3, opcode) != nullptr) return look_up(Format::VOP3, opcode);
        if (opcode < 256) return look_up(Format::VOPC, opcode);
        if (opcode < first_vop1) return look_up(Format::VOP2, opcode - 256);
        if (opcode < first_vop1 + 128) return look_up(Format::VOP1, opcode - first_vop1);
        return look_up(Format::VOP3, opcode);
    }
    void vop3() {
        const u64 bits = pair();
        if (!look_up_vop3(field(bits, 25, 16))) return;
        in.format = u8(Format::VOP3);
        const unsigned result = field(bits, 7, 0);
        const bool is_compare = operation().result == Type::kMask;
        in.result = is_compare ? scalar_result(result, Type::kMask) : vector_result(result);
        if (is_compare) compare_result();
        if (operation().carries) in.carry = scalar_result(field(bits, 14, 8), Type::kMask);
        const bool is_bits = std::strncmp(operation().name, "v_bitop3", 8) == 0;
        if (is_bits) in.immediate = field(bits, 60, 59) << 6 | field(bits, 10, 8) << 3 | field(bits, 63, 61);
        const unsigned count_encoded =
            operation().source_count - (operation().traits & (kAccumulates | kReadsVcc) ? 1u : 0u);
        for (unsigned index = 0; index < count_encoded && index < 3; ++index) {
            Operand& operand = in.sources[index];
            operand = source(field(bits, 40 + 9 * index, 32 + 9 * index), type_of(index), 2);
            if (is_bits) continue;
            operand.negate = field(bits, 61 + index, 61 + index) != 0;
            if (!operation().carries) {
                operand.absolute = field(bits, 8 + index, 8 + index) != 0;
                const bool is_half = operand.type == Type::kB16 || operand.type == Type::kF16;
                if (field(bits, 11 + index, 11 + index) != 0) {
                    if (!is_half) is_known = false;
                    operand.part = 5;
                }
            }
        }
        if (operation().traits & kReadsVcc) in.sources[operation().source_count - 1] = vcc();
        accumulate();
        if (!operation().carries) {
            if (field(bits, 14, 14)) {
                in.result_part = 5;
                in.unused = 2;
            }
            in.clamp = field(bits, 15, 15) != 0;
        }
        if (!is_bits) in.multiplier = u8(field(bits, 60, 59));
    }
    void vop3p() {
        const u64 bits = pair();
        if (!look_up(Format::VOP3P, field(bits, 22, 16))) return;
        in.result = vector(field(bits, 7, 0), operation().result);
        in.negate_high = u8(field(bits, 10, 8));
        in.select_low = u8(field(bits, 13, 11));
        in.select_high = u8(field(bits, 60, 59) | field(bits, 14, 14) << 2);
        in.clamp = field(bits, 15, 15) != 0;
        in.negate_low = u8(field(bits, 63, 61));
        for (unsigned index = 0; index < operation().source_count; ++index)
            in.sources[index] = source(field(bits, 40 + 9 * index, 32 + 9 * index), type_of(index), 2);
        if (in.clamp) is_known = false;
        if (operation().kind == 0) return;
        in.result_part = operation().kind;
        in.unused = 2;
    }

    // Two instructions in one: opcodes of the two halves.
    static const char* dual_name(unsigned opcode) {
        static constexpr const char* kNames[] = {
            "v_fmac_f32",    "v_fmaak_f32",   "v_fmamk_f32",   "v_mul_f32", "v_add_f32",
            "v_sub_f32",     "v_subrev_f32",  nullptr,         "v_mov_b32", "v_cndmask_b32",
            "v_max_num_f32", "v_min_num_f32", nullptr,         nullptr,     nullptr,
            nullptr,         "v_add_u32",     "v_lshlrev_b32", "v_and_b32"};
        return opcode < sizeof kNames / sizeof *kNames ? kNames[opcode] : nullptr;
    }
    void half(Instruction& part, unsigned opcode, unsigned result, unsigned first, unsigned second) {
        const char* const name = dual_name(opcode);
        part.operation = name == nullptr ? nullptr : find_operation(name);
        if (part.operation == nullptr) {
            is_known = false;
            return;
        }
        part.execute = part.operation->execute;
        part.name = name;
        part.result = vector(result, part.operation->result);
        part.format = u8(Format::VOPD);
        Decoder view = {target, words, count, part, extra};
        view.used = used;
        const Operand source0 = view.source(first, part.operation->sources[0], 2);
        // The literal is behind both words.
        part.sources[0] = source0;
        const u16 traits = part.operation->traits;
        if (part.operation->source_count > 1) {
            const Operand other = vector(second, Type::kB32);
            if (traits & kLiteralSecond) {
                part.sources[1] = constant(view.word(2), Type::kF32);
                part.sources[2] = other;
            } else {
                part.sources[1] = other;
                if (traits & kLiteralThird) part.sources[2] = constant(view.word(2), Type::kF32);
            }
            if (part.operation->source_count == 3 && part.operation->sources[2] == Type::kMask)
                part.sources[2] = vcc();
            view.accumulate();
        }
        used = view.used;
        is_known = is_known && view.is_known;
    }
    void vopd() {
        const u64 bits = pair();
        const unsigned result_x = field(bits, 63, 56);
        const unsigned result_y = field(bits, 55, 49) << 1 | (~result_x & 1);
        half(in, field(bits, 25, 22), result_x, field(bits, 8, 0), field(bits, 16, 9));
        Instruction second;
        second.address = in.address;
        half(second, field(bits, 21, 17), result_y, field(bits, 40, 32), field(bits, 48, 41));
        extra.push_back(second);
        in.second = &extra.back();
    }

    // ---- memory ------------------------------------------------------------------------------------

    Type data_type() const {
        const unsigned bytes = operation().bytes;
        return bytes <= 4 ? Type::kB32 : bytes == 8 ? Type::kB64 : bytes == 12 ? Type::kB96 : Type::kB128;
    }

    void smem() {
        const u64 bits = pair();
        const bool is_old = target.family == Family::kGfx9;
        if (!look_up(Format::SMEM, is_old ? field(bits, 25, 18) : field(bits, 18, 13))) return;
        in.result = scalar_result(field(bits, 12, 6), Type::kB32);
        in.sources[0] = register_operand(Place::kScalar, field(bits, 5, 0) * 2, Type::kB64);
        const bool has_immediate = !is_old || field(bits, 17, 17) != 0;
        const bool has_register = is_old ? field(bits, 14, 14) != 0 : field(bits, 63, 57) != target.null;
        if (has_immediate) in.offset = is_old ? signed_field(bits, 52, 32) : signed_field(bits, 55, 32);
        else if (!has_register && operation().result == Type::kB32)
            is_known = false;  // an offset in a register, as once
        if (has_register) in.sources[1] = register_operand(Place::kScalar, field(bits, 63, 57), Type::kB32);
    }
    void ds() {
        const u64 bits = pair();
        if (!look_up(Format::DS, target.family == Family::kGfx9 ? field(bits, 24, 17) : field(bits, 25, 18)))
            return;
        const bool is_old = target.family == Family::kGfx9;
        if (is_old && field(bits, 16, 16)) is_known = false;  // GDS
        const unsigned accumulators = is_old && field(bits, 25, 25) ? 256 : 0;
        if (operation().result != Type::kNone)
            in.result = vector(field(bits, 63, 56) + accumulators, data_type());
        in.sources[0] = vector(field(bits, 39, 32), Type::kB32);
        in.sources[1] = vector(field(bits, 47, 40) + accumulators, data_type());
        in.sources[2] = vector(field(bits, 55, 48) + accumulators, data_type());
        if (operation().traits & kPacked) {
            const i32 unit = operation().kind * operation().bytes;
            in.offset = i32(field(bits, 7, 0)) * unit;
            in.second_offset = i32(field(bits, 15, 8)) * unit;
        } else {
            in.offset = i32(field(bits, 15, 0));
        }
    }
    Scope scope_of(bool sc0, bool sc1) const {
        if (!target.memory.has_scope_bits) return sc0 ? Scope::kWorkgroup : Scope::kWave;  // glc
        return sc1 ? (sc0 ? Scope::kSystem : Scope::kAgent) : sc0 ? Scope::kWorkgroup : Scope::kWave;
    }
    void flat_gfx9() {
        const u64 bits = pair();
        static constexpr Format kSegments[] = {Format::FLAT, Format::SCRATCH, Format::GLOBAL,
                                               Format::kUnknown};
        const Format format = kSegments[field(bits, 15, 14)];
        if (!look_up(format, field(bits, 24, 18))) return;
        const unsigned accumulators = field(bits, 55, 55) ? 256 : 0;
        in.offset = format == Format::FLAT ? i32(field(bits, 11, 0)) : signed_field(bits, 12, 0);
        vector_memory(field(bits, 39, 32), field(bits, 47, 40) + accumulators,
                      field(bits, 63, 56) + accumulators,
                      format == Format::FLAT || field(bits, 54, 48) == 0x7f ? -1 : i32(field(bits, 54, 48)));
        in.returns = field(bits, 16, 16) != 0;
        in.temporal = field(bits, 17, 17) == 0;
        const bool is_atomic = operation().result != Type::kNone && operation().traits & kStore;
        in.scope = scope_of(field(bits, 16, 16) != 0 && !is_atomic, field(bits, 25, 25) != 0);
        if (is_atomic && in.scope < Scope::kAgent && !target.memory.has_scope_bits) in.scope = Scope::kAgent;
        if (is_atomic && target.memory.has_scope_bits)
            in.scope = field(bits, 25, 25) ? Scope::kSystem : Scope::kAgent;
    }
    void flat_gfx12() {
        const u64 bits = pair();
        const u32 last = word(2);
        static constexpr Format kSegments[] = {Format::FLAT, Format::SCRATCH, Format::GLOBAL,
                                               Format::kUnknown};
        const Format format = kSegments[field(bits, 25, 24)];
        if (!look_up(format, field(bits, 21, 14))) return;
        in.offset = signed_field(last, 31, 8);
        const unsigned base = field(bits, 6, 0);
        vector_memory(field(last, 7, 0), field(bits, 62, 55), field(bits, 39, 32),
                      base == target.null ? -1 : i32(base));
        in.scope = Scope(field(bits, 51, 50));
        in.returns = field(bits, 52, 52) != 0;  // of an atomic: TH_ATOMIC_RETURN
    }
    void vector_memory(unsigned address, unsigned data, unsigned result, i32 base) {
        in.sources[0] = vector(address, base < 0 ? Type::kB64 : Type::kB32);
        in.sources[1] = vector(data, data_type());
        if (base >= 0) in.sources[2] = register_operand(Place::kScalar, unsigned(base), Type::kB64);
        if (operation().result != Type::kNone) in.result = vector(result, data_type());
    }
    void mubuf() {
        const u64 bits = pair();
        if (!look_up(Format::MUBUF, field(bits, 24, 18))) return;
        const bool sc0 = field(bits, 14, 14) != 0, sc1 = field(bits, 15, 15) != 0;
        in.scope = target.memory.has_scope_bits ? scope_of(sc0, sc1) : Scope::kSystem;
    }

    void decode() {
        const u32 first = words[0];
        const bool is_old = target.family == Family::kGfx9;
        if (first >> 31 == 0) {
            if (first >> 25 == 0x3f) return vop1();
            if (first >> 25 == 0x3e) return vopc();
            return vop2();
        }
        if (first >> 30 == 2) {
            if (first >> 23 == 0x17d) return sop1();
            if (first >> 23 == 0x17e) return sopc();
            if (first >> 23 == 0x17f) return sopp();
            if (first >> 28 == 0xb) return sopk();
            return sop2();
        }
        switch (first >> 26) {
            case 0x34: is_old ? (first >> 23 == 0x1a7 ? vop3p() : vop3()) : unknown(); return;
            case 0x35: is_old ? unknown() : vop3(); return;
            case 0x33: is_old ? unknown() : vop3p(); return;
            case 0x32: is_old ? unknown() : vopd(); return;
            case 0x30: is_old ? smem() : unknown(); return;
            case 0x3d: is_old ? unknown() : smem(); return;
            case 0x36: return ds();
            case 0x37: is_old ? flat_gfx9() : unknown(); return;
            case 0x3b: is_old ? unknown() : flat_gfx12(); return;
            case 0x38: is_old ? mubuf() : unknown(); return;
            default: return unknown();
        }
    }
    void unknown() { is_known = false; }
};

// An integer result that is clamped is another operation, which saturates. False: there is none.
bool saturate(Instruction& instruction) {
    const Type type = instruction.result.type;
    if (!instruction.clamp || type == Type::kF16 || type == Type::kF32 || type == Type::kF64) return true;
    const Operation* const saturating =
        find_operation((instruction.operation->name + std::string("_clamp")).c_str());
    if (saturating == nullptr) return false;
    instruction.operation = saturating;
    instruction.execute = saturating->execute;
    instruction.clamp = false;
    return true;
}

void refuse_unknown(Wave&, const Instruction& instruction) {
    refuse("the instruction %08x %08x is not known%s%s", unsigned(instruction.sources[0].value),
           unsigned(instruction.sources[1].value), *instruction.name != '\0' ? ": a form of " : "",
           instruction.name);
}

}  // namespace

unsigned decode(const Target& target, const uint32_t* words, unsigned count, Instruction& instruction,
                std::deque<Instruction>& extra) {
    static constexpr Operation kUnknown = {"unknown", &refuse_unknown, Type::kNone, false, 0, {}, 0, 0, 0};
    Decoder decoder = {target, words, count, instruction, extra};
    decoder.decode();
    if (!decoder.is_known || !saturate(instruction)) {
        const char* const name = instruction.name;
        const uint32_t address = instruction.address;
        instruction = Instruction();
        instruction.name = name;
        instruction.address = address;
        instruction.operation = &kUnknown;
        instruction.execute = &refuse_unknown;
        instruction.sources[0].value = words[0];
        instruction.sources[1].value = count > 1 ? words[1] : 0;
    }
    const Type type = instruction.result.type;
    const bool keeps_half = (type == Type::kB16 || type == Type::kF16) && target.family != Family::kGfx9;
    const bool keeps_around = instruction.result_part != 6 && instruction.unused == 2;
    instruction.keeps_rest = instruction.result.place == Place::kVector && (keeps_half || keeps_around);
    instruction.bytes = uint8_t(4 * decoder.used);
    return decoder.used;
}

}  // namespace hipcomm::amd
