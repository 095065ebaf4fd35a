// Vector instructions that are no function of one lane: between lanes and scalars, and by a table of bits.
#include "lanes.h"

namespace hipcomm::amd {
namespace {

u32 word_of_lane(const Wave& wave, const Operand& operand, unsigned lane) {
    return operand.place == Place::kVector ? wave.vectors[operand.index][lane]
                                           : u32(peek_operand(wave, operand));
}

void read_first_lane(Wave& wave, const Instruction& instruction) {
    const u64 exec = wave.exec();
    const unsigned lane = exec != 0 ? unsigned(__builtin_ctzll(exec)) : 0;
    write_operand(wave, instruction.result, word_of_lane(wave, instruction.sources[0], lane));
}

void read_lane_of(Wave& wave, const Instruction& instruction) {
    const unsigned lane = unsigned(read_operand(wave, instruction.sources[1])) % wave.target->lanes;
    write_operand(wave, instruction.result, word_of_lane(wave, instruction.sources[0], lane));
}

void write_lane_of(Wave& wave, const Instruction& instruction) {
    const unsigned lane = unsigned(read_operand(wave, instruction.sources[1])) % wave.target->lanes;
    const unsigned index = instruction.result.index;
    check_vector_write(wave, index);
    wave.vectors[index][lane] = u32(peek_operand(wave, instruction.sources[0]));
    wave.readable[index] |= 1ull << lane;
}

// Any function of three bits: the immediate is its table.
void combine_bits(Wave& wave, const Instruction& instruction) {
    const u64 exec = wave.exec();
    Source sources[3];
    alignas(64) Register scratch[3][2];
    for (unsigned index = 0; index < 3; ++index)
        fetch(wave, instruction.sources[index], scratch[index], sources[index]);
    alignas(64) Register low, high;
    const u32 mask = instruction.result.type == Type::kB16 ? 0xffff : ~0u;
    for (unsigned lane = 0; lane < kMaxLanes; ++lane)
        low[lane] = bit_operation(sources[0].low[lane], sources[1].low[lane], sources[2].low[lane],
                                  instruction.immediate) &
                    mask;
    commit(wave, instruction, exec, low, high);
}

// How many lanes before this one have their bit in the mask, of one half of the wave.
template <unsigned half>
void count_lanes_before(Wave& wave, const Instruction& instruction) {
    const u64 exec = wave.exec();
    Source sources[2];
    alignas(64) Register scratch[2][2], low, high;
    for (unsigned index = 0; index < 2; ++index)
        fetch(wave, instruction.sources[index], scratch[index], sources[index]);
    for (unsigned lane = 0; lane < kMaxLanes; ++lane) {
        const u64 before = (1ull << lane) - 1;
        low[lane] =
            u32(__builtin_popcount(sources[0].low[lane] & u32(before >> 32 * half))) + sources[1].low[lane];
    }
    commit(wave, instruction, exec, low, high);
}

constexpr Operation kOperations[] = {
    {"v_readfirstlane_b32", &read_first_lane, Type::kB32, false, 1, {Type::kB32}, kVector | kReadsLane, 0, 0},
    {"v_readlane_b32", &read_lane_of, Type::kB32, false, 2, {Type::kB32, Type::kB32}, kVector | kReadsLane,
     0, 0},
    {"v_writelane_b32", &write_lane_of, Type::kB32, false, 2, {Type::kB32, Type::kB32}, kVector | kReadsLane,
     0, 0},
    {"v_bitop3_b32", &combine_bits, Type::kB32, false, 3, {Type::kB32, Type::kB32, Type::kB32}, kVector, 0,
     0},
    {"v_bitop3_b16", &combine_bits, Type::kB16, false, 3, {Type::kB16, Type::kB16, Type::kB16}, kVector, 0,
     0},
    {"v_mbcnt_lo_u32_b32", &count_lanes_before<0>, Type::kB32, false, 2, {Type::kB32, Type::kB32}, kVector,
     0, 0},
    {"v_mbcnt_hi_u32_b32", &count_lanes_before<1>, Type::kB32, false, 2, {Type::kB32, Type::kB32}, kVector,
     0, 0},
};

}  // namespace

Operations lane_operations() { return {kOperations, sizeof kOperations / sizeof *kOperations}; }

}  // namespace hipcomm::amd
