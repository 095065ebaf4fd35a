// One launch of a kernel: its blocks and waves, advanced together by the calling thread.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "code_object.h"
#include "counts.h"
#include "device_memory.h"
#include "wave.h"

namespace hipcomm::amd {

// What launches that run together have in common.
struct Group {
    uint64_t number = 0;    // of the groups so far; where launches run alone: of the device's launches so far
    uint64_t accesses = 0;  // vector memory accesses so far
    uint64_t ticks = 0;     // their clock, if there are several; else it is the machine's
    bool has_clock = false;
};

class Launch {
public:
    // `arguments` is the segment, complete.
    Launch(const Kernel& kernel, uint32_t blocks, uint32_t threads, uint32_t shared_bytes,
           const uint8_t* arguments, size_t argument_bytes, int device);
    ~Launch();

    int device() const { return device_; }

    // From begin() to end(), pass() by pass(). They throw Fault, with the kernel's name and the position in
    // it.
    void begin(Group& group,
               uint64_t number);  // number: what is random follows from it, the seed and the device
    bool pass();  // gives all waves, or with a seed some, a turn; false: they only wait
    bool is_over() const { return is_over_; }
    void end();

    // For the memory instructions.
    DeviceMemory& memory() { return memory_; }
    bool delays();  // whether the next access happens later
    void order(Wave& wave, const Access& access);  // before an access that happens at once
    Access* keep(const Access& access);
    void finish(Wave& wave, Outstanding& entry);
    uint64_t clock() const;  // 100 MHz
    void count(const Access& access) { counts_.add(access); }
    void count_scalar(unsigned words) { counts_.scalar_words += words; }

private:
    template <class Body>
    void guard(Body&& body);
    void begin_wave(Wave& wave, Block& block, uint32_t first, uint32_t threads);
    bool advance(Wave& wave);
    void release_barrier(Block& block);
    bool disturb(Wave& wave);
    void happen(Wave& wave, Access& access, unsigned lane);
    void complete(Wave& wave, Access& access);
    uint64_t random();

    const Kernel& kernel_;
    const Target& target_;
    const int device_;
    std::vector<uint8_t> arguments_;
    DeviceMemory memory_;
    const bool is_random_;  // the order of waves, and how long accesses take
    const bool may_delay_;
    uint64_t random_ = 0;
    Group* group_ = nullptr;
    unsigned pause_ = 0;  // passes in which nothing happens here, and peers go on
    size_t waves_left_ = 0;
    bool is_over_ = false;
    std::vector<std::unique_ptr<Block>> blocks_;
    std::vector<std::unique_ptr<Wave>> waves_;
    std::vector<Wave*> order_;
    std::vector<std::unique_ptr<Access>> spare_;
    Wave* current_ = nullptr;
    Counts counts_;
};

}  // namespace hipcomm::amd
