// Vector instructions: one function of a lane, applied to all lanes of a wave.
#pragma once

#include <utility>

#include "numbers.h"
#include "wave.h"

namespace hipcomm::amd {

using Register = u32[kMaxLanes];

// A lane of a mask: a carry, or the condition of v_cndmask.
struct Bit {
    u32 value;
};
// A result and its carry.
template <class T>
struct Carried {
    T value;
    bool carry;
};

template <class T>
struct LaneType;
template <> struct LaneType<u32> { static constexpr Type kType = Type::kB32; };
template <> struct LaneType<i32> { static constexpr Type kType = Type::kB32; };
template <> struct LaneType<u64> { static constexpr Type kType = Type::kB64; };
template <> struct LaneType<i64> { static constexpr Type kType = Type::kB64; };
template <> struct LaneType<u16> { static constexpr Type kType = Type::kB16; };
template <> struct LaneType<i16> { static constexpr Type kType = Type::kB16; };
template <> struct LaneType<f16> { static constexpr Type kType = Type::kF16; };
template <> struct LaneType<f32> { static constexpr Type kType = Type::kF32; };
template <> struct LaneType<f64> { static constexpr Type kType = Type::kF64; };
template <> struct LaneType<Bit> { static constexpr Type kType = Type::kMask; };
template <> struct LaneType<bool> { static constexpr Type kType = Type::kMask; };
template <class T> struct LaneType<Carried<T>> { static constexpr Type kType = LaneType<T>::kType; };

// Where the lanes of a source are: a register, or a copy with a constant or with modifiers applied.
struct Source {
    const u32* low;
    const u32* high;
    u64 mask;
};

// Finds a source. The scratch registers hold copies.
void fetch(const Wave& wave, const Operand& operand, Register (&scratch)[2], Source& source);

// Writes a result to the lanes of exec, with what the instruction wants done to it.
void commit(Wave& wave, const Instruction& instruction, u64 exec, Register& low, Register& high);
void commit_mask(Wave& wave, const Instruction& instruction, const Operand& operand, u64 exec, u64 mask);

template <class T>
inline T read_lane(const Source& source, unsigned lane) {
    if constexpr (std::is_same_v<T, Bit>) return {u32(source.mask >> lane & 1)};
    else if constexpr (std::is_same_v<T, f16>) return {u16(source.low[lane])};
    else if constexpr (sizeof(T) == 2) return T(source.low[lane]);
    else if constexpr (sizeof(T) == 4) return bit_cast<T>(source.low[lane]);
    else return bit_cast<T>(source.low[lane] | u64(source.high[lane]) << 32);
}

template <class T>
inline void write_lane(Register& low, Register& high, unsigned lane, T value) {
    if constexpr (std::is_same_v<T, f16>) low[lane] = value.bits;
    else if constexpr (sizeof(T) == 2) low[lane] = u16(value);
    else if constexpr (sizeof(T) == 4) low[lane] = bit_cast<u32>(value);
    else {
        const u64 bits = bit_cast<u64>(value);
        low[lane] = u32(bits);
        high[lane] = u32(bits >> 32);
    }
}

template <class T>
struct IsCarried : std::false_type {};
template <class T>
struct IsCarried<Carried<T>> : std::true_type {};

template <auto compute>
struct Lanes;

template <class D, class... S, D (*compute)(S...)>
struct Lanes<compute> {
    static constexpr size_t kCount = sizeof...(S);

    static void execute(Wave& wave, const Instruction& instruction) {
        execute(wave, instruction, std::make_index_sequence<kCount>());
    }

    template <size_t... I>
    static void execute(Wave& wave, const Instruction& instruction, std::index_sequence<I...>) {
        const u64 exec = wave.exec();
        Source sources[kCount];
        alignas(64) Register scratch[kCount][2];
        (fetch(wave, instruction.sources[I], scratch[I], sources[I]), ...);
        if constexpr (std::is_same_v<D, bool>) {
            u64 mask = 0;
            for (unsigned lane = 0; lane < kMaxLanes; ++lane)
                mask |= u64(compute(read_lane<S>(sources[I], lane)...)) << lane;
            commit_mask(wave, instruction, instruction.result, exec, mask);
        } else {
            alignas(64) Register low, high;
            if constexpr (IsCarried<D>::value) {
                u64 mask = 0;
                for (unsigned lane = 0; lane < kMaxLanes; ++lane) {
                    const D result = compute(read_lane<S>(sources[I], lane)...);
                    write_lane(low, high, lane, result.value);
                    mask |= u64(result.carry) << lane;
                }
                commit_mask(wave, instruction, instruction.carry, exec, mask);
            } else {
                for (unsigned lane = 0; lane < kMaxLanes; ++lane)
                    write_lane(low, high, lane, compute(read_lane<S>(sources[I], lane)...));
            }
            commit(wave, instruction, exec, low, high);
        }
    }

    static constexpr Operation describe(const char* name, uint16_t traits) {
        return {name,
                static_cast<Execute>(&execute),
                LaneType<D>::kType,
                IsCarried<D>::value,
                uint8_t(kCount),
                {LaneType<S>::kType...},
                uint16_t(traits | kVector),
                0,
                0};
    }
};

}  // namespace hipcomm::amd
