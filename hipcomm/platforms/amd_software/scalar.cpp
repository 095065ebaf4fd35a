// Scalar instructions: the table of scalar.def.
#include <utility>

#include "memory.h"
#include "numbers.h"
#include "wave.h"

namespace hipcomm::amd {
namespace {

template <class T>
struct ScalarType;
template <> struct ScalarType<u32> { static constexpr Type kType = Type::kB32; };
template <> struct ScalarType<i32> { static constexpr Type kType = Type::kB32; };
template <> struct ScalarType<u64> { static constexpr Type kType = Type::kB64; };
template <> struct ScalarType<i64> { static constexpr Type kType = Type::kB64; };
template <> struct ScalarType<f32> { static constexpr Type kType = Type::kF32; };

template <class T>
T read(const Wave& wave, const Operand& operand) {
    u64 bits = peek_operand(wave, operand);
    if (__builtin_expect(operand.is_modified(), 0)) {  // v_s_rcp_f32 and its kin
        if (operand.absolute) bits &= 0x7fffffff;
        if (operand.negate) bits ^= 0x80000000;
    }
    if constexpr (sizeof(T) == 4) return bit_cast<T>(u32(bits));
    else return bit_cast<T>(bits);
}
template <class T>
u64 bits(T value) {
    if constexpr (sizeof(T) == 4) return bit_cast<u32>(value);
    else return bit_cast<u64>(value);
}

bool condition(const Wave& wave) {
    if (!wave.is_scc_written) refuse("SCC is read, and nothing has written it");
    return wave.scc;
}
void set_condition(Wave& wave, bool value) {
    wave.scc = value;
    wave.is_scc_written = true;
}
template <class T>
T nonzero(Wave& wave, T value) {
    set_condition(wave, value != 0);
    return value;
}
u32 carry(Wave& wave, u64 value) {
    set_condition(wave, value >> 32 != 0);
    return u32(value);
}
u32 borrow(Wave& wave, u32 a, u32 b, u32 taken) {
    set_condition(wave, u64(a) < u64(b) + taken);
    return a - b - taken;
}
u32 overflow(Wave& wave, i64 value) {
    set_condition(wave, value != i32(value));
    return u32(value);
}
template <class T>
T choose(Wave& wave, bool first, T a, T b) {
    set_condition(wave, first);
    return first ? a : b;
}
template <class T>
T change_exec(Wave& wave, T, T mask) {
    const T old = T(wave.exec());
    set_condition(wave, mask != 0);
    wave.set_exec(mask);
    return old;
}
u64 wide_bit_field(u64 x, u32 offset, u32 width) {
    return width >= 64 ? x >> offset : x >> offset & ((1ull << width) - 1);
}

// Whether any lane is in VCC. One that is for certain settles it.
bool has_vcc(const Wave& wave) {
    const unsigned words = wave.target->lanes / 32u;
    for (unsigned index = kVcc; index < kVcc + words; ++index)
        if ((wave.scalars[index] & (wave.is_readable(index) ? ~0u : ~wave.undefined_scalars[index])) != 0 &&
            !wave.is_pending(index))
            return true;
    for (unsigned index = kVcc; index < kVcc + words; ++index) read_scalar(wave, index);
    return false;
}
void branch_if(Wave& wave, const Instruction& instruction, bool taken) {
    if (taken) wave.program_counter = instruction.target;
}
// The only message without an answer that is known: the wave needs its vector registers no more.
void send_message(const Instruction& instruction) {
    constexpr u32 kDeallocateRegisters = 3;
    if (instruction.immediate != kDeallocateRegisters) refuse("this message is not known");
}

void signal_barrier(Wave& wave, const Instruction& instruction) {
    if (instruction.sources[0].value != ~0ull && u32(instruction.sources[0].value) != ~0u)
        refuse("only the barrier of the block is known");
    (void)wave;  // it arrives when it waits: no kernel does anything else in between that others could see
}

template <auto compute>
struct Scalars;

template <class D, class... S, D (*compute)(Wave&, S...)>
struct Scalars<compute> {
    static void execute(Wave& wave, const Instruction& instruction) {
        execute(wave, instruction, std::make_index_sequence<sizeof...(S)>());
    }
    template <size_t... I>
    static void execute(Wave& wave, const Instruction& instruction, std::index_sequence<I...>) {
        if constexpr (std::is_void_v<D>) compute(wave, read<S>(wave, instruction.sources[I])...);
        else
            write_operand(wave, instruction.result,
                          bits(compute(wave, read<S>(wave, instruction.sources[I])...)));
    }
    static constexpr Type result() {
        if constexpr (std::is_void_v<D>) return Type::kNone;
        else return ScalarType<D>::kType;
    }
    static constexpr Operation describe(const char* name, uint16_t traits) {
        return {name,
                static_cast<Execute>(&execute),
                result(),
                false,
                uint8_t(sizeof...(S)),
                {ScalarType<S>::kType...},
                traits,
                0,
                0};
    }
};

#define SCALAR1_(name, D, A, expression, traits) \
    D name([[maybe_unused]] Wave& wave, A a) { return expression; }
#define SCALAR2_(name, D, A, B, expression, traits) \
    D name([[maybe_unused]] Wave& wave, A a, B b) { return expression; }
#define SCALAR3_(name, D, A, B, C, expression, traits) \
    D name([[maybe_unused]] Wave& wave, A a, B b, C c) { return expression; }
#define SCALAR1(name, D, A, expression) SCALAR1_(name, D, A, expression, 0)
#define SCALAR2(name, D, A, B, expression) SCALAR2_(name, D, A, B, expression, 0)
#define TEST(name, T, expression) void name(Wave& wave, T a, T b) { set_condition(wave, expression); }
#define CONTROL(name, statement, traits)                                                               \
    void name([[maybe_unused]] Wave& wave, [[maybe_unused]] const Instruction& instruction) { statement; }
#include "scalar.def"
#undef SCALAR1_
#undef SCALAR2_
#undef SCALAR3_
#undef TEST
#undef CONTROL

#define SCALAR1_(name, D, A, expression, traits) Scalars<&name>::describe(#name, traits),
#define SCALAR2_(name, D, A, B, expression, traits) Scalars<&name>::describe(#name, traits),
#define SCALAR3_(name, D, A, B, C, expression, traits) Scalars<&name>::describe(#name, traits),
#define TEST(name, T, expression) Scalars<&name>::describe(#name, 0),
#define CONTROL(name, statement, traits) {#name, &name, Type::kNone, false, 0, {}, traits, 0, 0},
constexpr Operation kOperations[] = {
#include "scalar.def"
};

}  // namespace

Operations scalar_operations() { return {kOperations, sizeof kOperations / sizeof *kOperations}; }

}  // namespace hipcomm::amd
