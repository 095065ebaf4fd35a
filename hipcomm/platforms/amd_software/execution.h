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

class Launch {
public:
    // `arguments` is the segment, complete.
    Launch(const Kernel& kernel, uint32_t blocks, uint32_t threads, uint32_t shared_bytes, const uint8_t* arguments,
           size_t argument_bytes, int device);
    ~Launch();

    // Until all waves have ended. Throws Fault, with the kernel's name and the position in it.
    void run();

    // For the memory instructions.
    DeviceMemory& memory() { return memory_; }
    bool delays();  // whether the next access happens later
    void order(Wave& wave, const Access& access);  // before an access that happens at once
    Access* keep(const Access& access);
    void finish(Wave& wave, Outstanding& entry);
    void count(const Access& access) { counts_.add(access); }
    void count_scalar(unsigned words) { counts_.scalar_words += words; }

private:
    void begin_wave(Wave& wave, Block& block, uint32_t first, uint32_t threads);
    bool advance(Wave& wave);
    void release_barrier(Block& block);
    void disturb(Wave& wave);
    void happen(Wave& wave, Access& access, unsigned lane);
    void complete(Wave& wave, Access& access);
    uint64_t random();

    const Kernel& kernel_;
    const Target& target_;
    std::vector<uint8_t> arguments_;
    DeviceMemory memory_;
    bool is_weak_;    // caches, random order and delays
    bool may_delay_;
    uint64_t random_;
    uint64_t accesses_ = 0;
    std::vector<std::unique_ptr<Block>> blocks_;
    std::vector<std::unique_ptr<Wave>> waves_;
    std::vector<std::unique_ptr<Access>> spare_;
    Wave* current_ = nullptr;
    Counts counts_;
};

}  // namespace hipcomm::amd
