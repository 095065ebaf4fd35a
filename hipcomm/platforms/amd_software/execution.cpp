// Running a kernel.
#include "execution.h"

#include <unistd.h>

#include <cstring>

#include "caches.h"
#include "definedness.h"
#include "lanes.h"
#include "settings.h"

namespace hipcomm::amd {
namespace {

constexpr unsigned kQuantum = 256;        // instructions that a wave runs before the next has its turn
// A delayed access happens after so many turns of its wave at the latest: most after few, one in 64 after the
// most.
constexpr unsigned kMostTurns = 1000;
constexpr unsigned kSomeTurns = 64;
constexpr unsigned kFewTurns = 8;
constexpr unsigned kTurnsOfOne = 200;  // where no other is delayed
constexpr unsigned kHeadStart =
    5000;  // microseconds that peers get, now and then, to act on a signal before its wave's accesses go on

// Vector registers of all waves of a launch; they stay with the thread.
uint32_t* vector_memory(size_t words) {
    thread_local std::unique_ptr<uint32_t[]> memory;
    thread_local size_t room = 0;
    if (room < words) {
        memory.reset(new uint32_t[words]);
        room = words;
    }
    return memory.get();
}

// A vector register, to be put back.
struct Saved {
    unsigned index;
    Register words;
    uint64_t readable, partial;
    std::array<uint32_t, kMaxLanes> undefined = {};

    Saved(const Wave& wave, unsigned saved)
        : index(saved), readable(wave.readable[saved]), partial(wave.partial[saved]) {
        std::memcpy(words, wave.vectors[index], sizeof words);
        if (partial != 0) undefined = wave.undefined_vectors.at(index);
    }
    void restore(Wave& wave) const {
        std::memcpy(wave.vectors[index], words, sizeof words);
        wave.readable[index] = readable;
        wave.partial[index] = partial;
        if (partial != 0) wave.undefined_vectors[index] = undefined;
    }
};

// Both halves of a dual instruction read their sources before either writes.
void execute_dual(Wave& wave, const Instruction& instruction) {
    const Saved before(wave, instruction.result.index);
    execute(wave, instruction);
    const Saved after(wave, instruction.result.index);
    before.restore(wave);
    execute(wave, *instruction.second);
    after.restore(wave);
}

void check(const Kernel& kernel, uint32_t threads, size_t argument_bytes) {
    constexpr uint32_t kNearestEvenWithDenormals = 0xf0;
    constexpr uint16_t kDispatchOrQueue = 0x6;
    constexpr uint16_t kWave32 = 1 << 10;
    if (kernel.scratch_bytes != 0) refuse("it uses %u bytes of scratch memory", kernel.scratch_bytes);
    if (kernel.mode != kNearestEvenWithDenormals)
        refuse("its mode bits are %#x: other rounding than to nearest even, or denormals flushed",
               kernel.mode);
    if (!kernel.is_ieee) refuse("it does not run in IEEE mode");
    if (kernel.setup & kDispatchOrQueue) refuse("it wants a dispatch or queue pointer");
    if (kernel.has_hidden_arguments) refuse("it has hidden arguments, which nothing here fills in");
    if (argument_bytes < kernel.argument_bytes)
        refuse("it has %u bytes of arguments, and %zu were given", kernel.argument_bytes, argument_bytes);
    if ((kernel.target->lanes == 32) != ((kernel.setup & kWave32) != 0))
        refuse("it is compiled for another wave size");
    if (threads == 0 || threads > 1024) refuse("a block of %u threads", threads);
}

Range range_of(const uint8_t* begin, size_t bytes) {
    const uint64_t address = reinterpret_cast<uint64_t>(begin);
    return {address, address + bytes, Page::kReadOnly};
}

}  // namespace

Launch::Launch(const Kernel& kernel, uint32_t blocks, uint32_t threads, uint32_t shared_bytes,
               const uint8_t* arguments, size_t argument_bytes, int device)
    : kernel_(kernel),
      target_(*kernel.target),
      device_(device),
      arguments_(arguments, arguments + argument_bytes),
      memory_(*kernel.target, device, range_of(arguments_.data(), argument_bytes),
              range_of(kernel.object->memory(), kernel.object->bytes()),
              settings().is_weak() ? &caches_of(device) : nullptr),
      is_random_(settings().seed != 0),
      may_delay_(settings().is_weak()) {
    try {
        check(kernel, threads, argument_bytes);
        kernel.decode();
    } catch (const Fault& fault) {
        throw Fault(kernel.name + ": " + fault.what());
    }
    const uint32_t waves_per_block = (threads + target_.lanes - 1) / target_.lanes;
    uint32_t* registers = vector_memory(size_t(blocks) * waves_per_block * kernel.vectors * kMaxLanes);
    for (uint32_t index = 0; index < blocks; ++index) {
        blocks_.push_back(std::make_unique<Block>());
        Block& block = *blocks_.back();
        block.index = index;
        block.shared.assign(kernel.shared_bytes + shared_bytes, 0xcd);
        for (uint32_t first = 0; first < threads; first += target_.lanes) {
            waves_.push_back(std::make_unique<Wave>());
            Wave& wave = *waves_.back();
            wave.vectors = reinterpret_cast<Register*>(registers);
            registers += size_t(kernel.vectors) * kMaxLanes;
            wave.number = uint32_t(waves_.size() - 1);
            begin_wave(wave, block, first, threads);
            block.waves.push_back(&wave);
        }
    }
    counts_.launches = 1;
    counts_.waves = waves_.size();
}

Launch::~Launch() {
    for (const auto& wave : waves_)  // of a launch that faulted
        for (const Outstanding& entry : wave->outstanding) delete entry.access;
}

// Registers as the hardware sets them up.
void Launch::begin_wave(Wave& wave, Block& block, uint32_t first, uint32_t threads) {
    wave.launch = this;
    wave.block = &block;
    wave.target = &target_;
    wave.vector_count = kernel_.vectors;
    wave.readable.assign(kernel_.vectors, 0);
    wave.partial.assign(kernel_.vectors, 0);
    wave.pending.assign(kernel_.vectors, 0);
    wave.arrived.assign(kernel_.vectors, 0);
    wave.program_counter = kernel_.first;
    std::fill(std::begin(wave.scalars), std::end(wave.scalars), 0xdead5a5au);
    std::fill(std::begin(wave.undefined_scalars), std::end(wave.undefined_scalars), ~0u);
    const uint32_t lanes = std::min<uint32_t>(target_.lanes, threads - first);
    const uint64_t mask = lanes == 64 ? ~0ull : (1ull << lanes) - 1;
    wave.set_exec(mask);

    static constexpr uint8_t kSetupScalars[] = {4, 2, 2, 2, 2, 2, 1};  // by bit of Kernel::setup
    constexpr unsigned kArgumentPointer = 3;
    const uint64_t arguments = reinterpret_cast<uint64_t>(arguments_.data());
    unsigned scalar = 0;
    for (unsigned bit = 0; bit < sizeof kSetupScalars; ++bit) {
        if (!(kernel_.setup >> bit & 1)) continue;
        if (bit == kArgumentPointer) {
            wave.set_scalar(scalar, uint32_t(arguments));
            wave.set_scalar(scalar + 1, uint32_t(arguments >> 32));
        }
        scalar += kSetupScalars[bit];
    }
    for (unsigned word = 0; word < kernel_.preloaded; ++word) {
        uint32_t value;
        const size_t offset = 4 * (size_t(kernel_.preloaded_from) + word);
        if (offset + 4 > arguments_.size())
            refuse("%s: a preloaded argument lies outside of the segment", kernel_.name.c_str());
        std::memcpy(&value, arguments_.data() + offset, 4);
        wave.set_scalar(scalar++, value);
    }
    if (scalar > kernel_.user_scalars)
        refuse("%s: %u user registers, of %u declared", kernel_.name.c_str(), scalar, kernel_.user_scalars);
    if (target_.family == Family::kGfx9) {
        scalar = kernel_.user_scalars;
        for (unsigned axis = 0; axis < 3; ++axis)
            if (kernel_.wants_block[axis]) wave.set_scalar(scalar++, axis == 0 ? block.index : 0);
    } else {
        constexpr unsigned kFirstTrapScalar = 108;
        wave.set_scalar(kFirstTrapScalar + 9, block.index);
        wave.set_scalar(kFirstTrapScalar + 7, 0);
    }
    for (uint32_t lane = 0; lane < kMaxLanes; ++lane) wave.vectors[0][lane] = first + lane;
    wave.readable[0] = mask;
}

uint64_t Launch::random() {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    random_ ^= random_ << 17;
    return random_;
}

// ---- delayed accesses --------------------------------------------------------------------------------

bool Launch::delays() {
    if (!settings().is_systematic()) return is_random_;
    return group_->accesses++ == (settings().delays_each ? group_->number : uint64_t(settings().delayed));
}

void Launch::order(Wave& wave, const Access& access) {
    for (Outstanding& entry : wave.outstanding)
        if (entry.access != nullptr && conflicts(*entry.access, access)) complete(wave, *entry.access);
}

Access* Launch::keep(const Access& access) {
    if (spare_.empty()) spare_.push_back(std::make_unique<Access>());
    Access* const kept = spare_.back().release();
    spare_.pop_back();
    *kept = access;
    kept->age = 0;
    const uint64_t chance = is_random_ ? random() % 64 : 0;
    if (!is_random_) kept->hold = kTurnsOfOne;
    else if (chance == 0) kept->hold = kMostTurns;
    else kept->hold = uint32_t(random() % (chance < 8 ? kSomeTurns : kFewTurns));
    kept->upper_first = is_random_ && random() % 2 != 0;
    kept->is_single = (access.lanes & (access.lanes - 1)) == 0;
    return kept;
}

void Launch::happen(Wave& wave, Access& access, unsigned lane) {
    const bool is_signal = access.action == Action::kStore && !access.is_shared && access.is_single;
    perform(wave, access, lane);
    if (!is_signal || !is_random_) return;
    if (random() % 4 != 0) return;
    // What a signal announces may still be under way: peers get the time to look.
    for (const Wave* other : wave.block->waves) {
        for (const Outstanding& entry : other->outstanding) {
            if (entry.access == nullptr || entry.access->lanes == 0 ||
                entry.access->action != Action::kStore || entry.access->is_single)
                continue;
            if (group_->has_clock) pause_ = unsigned(random() % kMostTurns);
            else usleep(kHeadStart);
            return;
        }
    }
}

void Launch::complete(Wave& wave, Access& access) {
    while (access.lanes != 0) happen(wave, access, unsigned(__builtin_ctzll(access.lanes)));
}

void Launch::finish(Wave& wave, Outstanding& entry) {
    if (entry.access == nullptr) return;
    // What came before it to the same places happens before it.
    for (Outstanding& earlier : wave.outstanding) {
        if (&earlier == &entry) break;
        if (earlier.access != nullptr && conflicts(*earlier.access, *entry.access))
            complete(wave, *earlier.access);
    }
    complete(wave, *entry.access);
    spare_.emplace_back(entry.access);
    entry.access = nullptr;
}

// Lets some of what a wave has under way happen, in any order that the same address allows. False: that was
// all.
bool Launch::disturb(Wave& wave) {
    bool is_left = false;
    for (size_t index = 0; index < wave.outstanding.size(); ++index) {
        Access* const access = wave.outstanding[index].access;
        if (access == nullptr || access->lanes == 0) continue;
        ++access->age;
        const bool is_due = access->age > access->hold;
        is_left |= !is_due;
        if (!is_due && (access->hold >= kSomeTurns || random() % 4 != 0)) continue;
        bool is_free = true;
        for (size_t earlier = 0; earlier < index; ++earlier) {
            Access* const other = wave.outstanding[earlier].access;
            if (other == nullptr || other->lanes == 0 || !conflicts(*other, *access)) continue;
            if (is_due) complete(wave, *other);
            else is_free = false;
        }
        if (!is_free) continue;
        // Some of the lanes: a wave's access is as many accesses as it touches lines.
        const uint64_t chosen =
            is_due || random() % 2 == 0 ? access->lanes : access->lanes & (random() | random());
        for (uint64_t left = chosen; left != 0; left &= left - 1)
            happen(wave, *access, unsigned(__builtin_ctzll(left)));
    }
    return is_left;
}

// ---- waves ---------------------------------------------------------------------------------------------

void Launch::release_barrier(Block& block) {
    for (const Wave* wave : block.waves)
        if (!wave->is_waiting && !wave->is_done) return;
    for (Wave* wave : block.waves) wave->is_waiting = false;
}

// Runs a wave for a while. False: it only sleeps.
bool Launch::advance(Wave& wave) {
    const Instruction* const code = kernel_.instructions.data();
    const size_t count = kernel_.instructions.size();
    unsigned quantum = is_random_ ? 1 + unsigned(random() % 128) : kQuantum;
    const bool is_waited_for = may_delay_ && disturb(wave);
    wave.flow = Flow::kNext;
    while (quantum-- > 0 && wave.flow == Flow::kNext) {
        if (wave.program_counter >= count) refuse("it runs past its end");
        const Instruction& instruction = code[wave.program_counter++];
        ++counts_.instructions;
        if (__builtin_expect(instruction.second != nullptr, 0)) execute_dual(wave, instruction);
        else execute(wave, instruction);
    }
    switch (wave.flow) {
        case Flow::kSleep: ++counts_.sleeps; return is_waited_for;
        case Flow::kBarrier: wave.is_waiting = true; break;
        case Flow::kEnd:
            wave.is_done = true;
            if (!may_delay_) wait_for_all(wave);
            break;
        case Flow::kStall:  // turns go by until what it waits for happens
        case Flow::kNext: return true;
    }
    release_barrier(*wave.block);
    return true;
}

// Adds to a fault where it happened.
template <class Body>
void Launch::guard(Body&& body) {
    try {
        body();
    } catch (const Fault& fault) {
        std::string place = kernel_.name;
        if (current_ != nullptr && current_->program_counter > 0) {
            const Instruction& instruction = kernel_.instructions[current_->program_counter - 1];
            char position[32];
            std::snprintf(position, sizeof position, "+%#x (",
                          instruction.address - kernel_.instructions[kernel_.first].address);
            place += position + std::string(instruction.name) + ")";
        }
        throw Fault(place + ": " + fault.what());
    }
}

uint64_t Launch::clock() const { return group_->has_clock ? group_->ticks : clock_ticks(); }

void Launch::begin(Group& group, uint64_t number) {
    group_ = &group;
    random_ = (settings().seed * 0x9e3779b97f4a7c15ull + number * 0xbf58476d1ce4e5b9ull +
               uint64_t(device_) * 0x2545f4914f6cdd1dull) |
              1;
    for (unsigned round = 0; round < 8; ++round) random();  // seeds that are alike
    memory_.begin(random());
    for (const auto& wave : waves_) order_.push_back(wave.get());
    waves_left_ = order_.size();
    is_over_ = false;
}

bool Launch::pass() {
    if (pause_ > 0) {
        --pause_;
        return false;
    }
    bool is_busy = false;
    guard([&] {
        if (is_random_)
            for (size_t index = order_.size(); index > 1; --index)
                std::swap(order_[index - 1], order_[random() % index]);
        for (Wave* wave : order_) {
            current_ = wave;
            if (wave->is_done || wave->is_waiting) {
                if (may_delay_) is_busy |= disturb(*wave);
                continue;
            }
            is_busy |= advance(*wave);
            waves_left_ -= wave->is_done ? 1 : 0;
        }
    });
    is_over_ = waves_left_ == 0 && !(may_delay_ && is_busy) && !(is_random_ && memory_.write_back_some());
    return is_busy || waves_left_ == 0;
}

void Launch::end() {
    guard([&] {
        for (const auto& wave : waves_) {
            current_ = wave.get();
            wait_for_all(*wave);
        }
        current_ = nullptr;
        memory_.end();
    });
    counts_.remote_bytes = memory_.remote_bytes();
    counts_.remote_pieces = memory_.remote_pieces();
    record(kernel_.name.c_str(), counts_);
}

}  // namespace hipcomm::amd
