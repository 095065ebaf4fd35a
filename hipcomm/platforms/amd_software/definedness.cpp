// Undefined bits. An instruction is executed several times, each time with other bits in the place of the
// undefined ones: bits of the result that differ depend on them. So no operation needs a rule of its own.
#include "definedness.h"

#include <algorithm>

#include "lanes.h"

namespace hipcomm::amd {
namespace {

// All zeros, all ones, and random bits: two undefined bits may cancel out, but not in all of these.
constexpr unsigned kTrials = 6;

u32 pattern(unsigned trial, u64& random) {
    if (trial < 2) return trial == 0 ? 0 : ~0u;
    random = random * 6364136223846793005ull + 1442695040888963407ull;
    return u32(random >> 32);
}

struct VectorSource {
    unsigned index;
    Register undefined;
};
struct ScalarSource {
    unsigned index;
    u32 undefined;
};

struct Sources {
    std::vector<VectorSource> vectors;
    std::vector<ScalarSource> scalars;

    void add(const Wave& wave, const Operand& operand, u64 lanes) {
        if (operand.place == Place::kVector) {
            for (unsigned index = operand.index; index < operand.index + registers_of(operand.type); ++index)
                add_vector(wave, index, lanes);
        } else if (operand.place == Place::kScalar) {
            for (unsigned index = operand.index; index < operand.index + scalars_of(wave, operand); ++index)
                add_scalar(wave, index);
        }
    }
    void add_vector(const Wave& wave, unsigned index, u64 lanes) {
        if (index >= wave.vector_count || wave.pending[index] != 0) refuse_vector_read(wave, index, lanes);
        for (const VectorSource& known : vectors)
            if (known.index == index) return;
        vectors.push_back({index, {}});
        for (unsigned lane = 0; lane < kMaxLanes; ++lane)
            vectors.back().undefined[lane] = lanes >> lane & 1 ? undefined_bits(wave, index, lane) : 0;
    }
    void add_scalar(const Wave& wave, unsigned index) {
        if (wave.is_readable(index)) return;
        if (wave.is_pending(index)) read_scalar(wave, index);  // refuses
        for (const ScalarSource& known : scalars)
            if (known.index == index) return;
        scalars.push_back({index, wave.undefined_scalars[index]});
    }
    void fill(Wave& wave, unsigned trial, u64& random) const {
        for (const VectorSource& source : vectors)
            for (unsigned lane = 0; lane < kMaxLanes; ++lane) {
                u32& word = wave.vectors[source.index][lane];
                word = (word & ~source.undefined[lane]) | (pattern(trial, random) & source.undefined[lane]);
            }
        for (const ScalarSource& source : scalars) {
            u32& word = wave.scalars[source.index];
            word = (word & ~source.undefined) | (pattern(trial, random) & source.undefined);
        }
    }
};

// What an instruction may change: two registers of a result and two of a second one, EXEC and SCC.
struct State {
    Register vectors[2];
    u64 readable[2];
    u32 scalars[4];
    u64 readable_scalars[2];
    u64 exec;
    bool scc, is_scc_written;
};

class Results {
public:
    Results(const Wave& wave, const Instruction& instruction) {
        const Operand& result = instruction.result;
        if (result.place == Place::kVector) {
            first_ = result.index;
            count_ = registers_of(result.type);
        }
        for (const Operand* operand : {&result, &instruction.carry}) {
            if (operand->place != Place::kScalar) continue;
            for (unsigned word = 0; word < scalars_of(wave, *operand); ++word)
                scalars_[scalar_count_++] = operand->index + word;
        }
    }
    void save(const Wave& wave, State& state) const {
        for (unsigned word = 0; word < count_; ++word) {
            std::memcpy(state.vectors[word], wave.vectors[first_ + word], sizeof(Register));
            state.readable[word] = wave.readable[first_ + word];
        }
        for (unsigned index = 0; index < scalar_count_; ++index)
            state.scalars[index] = wave.scalars[scalars_[index]];
        std::copy(std::begin(wave.readable_scalars), std::end(wave.readable_scalars), state.readable_scalars);
        state.exec = wave.exec();
        state.scc = wave.scc;
        state.is_scc_written = wave.is_scc_written;
    }
    void restore(Wave& wave, const State& state) const {
        for (unsigned word = 0; word < count_; ++word) {
            std::memcpy(wave.vectors[first_ + word], state.vectors[word], sizeof(Register));
            wave.readable[first_ + word] = 0;  // then what has been written shows
        }
        for (unsigned index = 0; index < scalar_count_; ++index)
            wave.scalars[scalars_[index]] = state.scalars[index];
        std::copy(std::begin(state.readable_scalars), std::end(state.readable_scalars),
                  wave.readable_scalars);
        if (wave.exec() != state.exec) wave.set_exec(state.exec);
        wave.scc = state.scc;
        wave.is_scc_written = state.is_scc_written;
    }
    // Adds the bits in which two outcomes differ.
    void compare(const State& one, const State& other) {
        for (unsigned word = 0; word < count_; ++word)
            for (unsigned lane = 0; lane < kMaxLanes; ++lane)
                differ_[word][lane] |= one.vectors[word][lane] ^ other.vectors[word][lane];
        for (unsigned index = 0; index < scalar_count_; ++index)
            scalars_differ_[index] |= one.scalars[index] ^ other.scalars[index];
        if (one.exec != other.exec) refuse("EXEC depends on bits that nothing has written");
        scc_differs_ |= one.scc != other.scc;
    }
    void mark(Wave& wave, const State& before) const {
        for (unsigned word = 0; word < count_; ++word) {
            const u64 written = wave.readable[first_ + word];
            wave.readable[first_ + word] |= before.readable[word] & ~written;
            for (u64 left = written; left != 0; left &= left - 1) {
                const unsigned lane = unsigned(__builtin_ctzll(left));
                if (differ_[word][lane] != 0)
                    set_undefined_bits(wave, first_ + word, lane, differ_[word][lane]);
            }
        }
        for (unsigned index = 0; index < scalar_count_; ++index) {
            if (scalars_differ_[index] == 0) continue;
            if (scalars_[index] == kExec || scalars_[index] == kExec + 1)
                refuse("EXEC depends on bits that nothing has written");
            wave.set_scalar(scalars_[index], wave.scalars[scalars_[index]]);
            wave.readable_scalars[scalars_[index] / 64] &= ~(1ull << scalars_[index] % 64);
            wave.undefined_scalars[scalars_[index]] = scalars_differ_[index];
        }
        if (scc_differs_) wave.is_scc_written = false;
    }

private:
    unsigned first_ = 0, count_ = 0;
    unsigned scalars_[4] = {}, scalar_count_ = 0;
    Register differ_[2] = {};
    u32 scalars_differ_[4] = {};
    bool scc_differs_ = false;
};

}  // namespace

u32 undefined_bits(const Wave& wave, unsigned index, unsigned lane) {
    if (wave.readable[index] >> lane & 1) return 0;
    if (!(wave.partial[index] >> lane & 1)) return ~0u;
    return wave.undefined_vectors.at(index)[lane];
}

void set_undefined_bits(Wave& wave, unsigned index, unsigned lane, u32 bits) {
    const u64 bit = 1ull << lane;
    wave.readable[index] = bits == 0 ? wave.readable[index] | bit : wave.readable[index] & ~bit;
    wave.partial[index] |= bit;
    wave.undefined_vectors[index][lane] = bits;
}

void execute_with_undefined_sources(Wave& wave, const Instruction& instruction) {
    const u64 lanes = instruction.operation->traits & kReadsLane ? wave.all_lanes() : wave.exec();
    Sources sources;
    for (unsigned index = 0; index < instruction.operation->source_count; ++index)
        sources.add(wave, instruction.sources[index], lanes);
    if (instruction.keeps_rest) sources.add(wave, instruction.result, lanes);

    Results results(wave, instruction);
    State before, first, other;
    results.save(wave, before);
    u64 random = 1;
    for (unsigned trial = 0; trial < kTrials; ++trial) {
        results.restore(wave, before);
        sources.fill(wave, trial, random);
        instruction.execute(wave, instruction);
        results.save(wave, trial == 0 ? first : other);
        if (trial > 0) results.compare(first, other);
    }
    results.mark(wave, before);
}

}  // namespace hipcomm::amd
