// Running launches, alone or together.
#include "together.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>

#include "settings.h"

namespace hipcomm::amd {
namespace {

constexpr uint64_t kTicksPerRound = 1000000;  // 10 ms
constexpr unsigned kRoundsPerPace = 64;
constexpr auto kPatience = std::chrono::seconds(60);

// Each device's launches so far.
uint64_t next_number(int device) {
    static std::mutex mutex;
    static std::map<int, uint64_t> numbers;
    const std::lock_guard<std::mutex> lock(mutex);
    return numbers[device]++;
}

void run_alone(Launch& launch) {
    Group group;
    group.number = next_number(launch.device());
    launch.begin(group, group.number);
    while (!launch.is_over())
        if (!launch.pass()) sched_yield();  // all wait for other ranks
    launch.end();
}

class Random {
public:
    explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull | 1) {}
    uint64_t operator()() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return state_;
    }

private:
    uint64_t state_;
};

// Launches of several devices, `batch` of each.
class Meeting {
public:
    Meeting(size_t devices, uint64_t batch) : devices_(devices), batch_(batch) { open(); }

    void run(Launch& launch) {
        Member self = {&launch, nullptr};
        std::unique_lock<std::mutex> lock(mutex_);
        const int device = launch.device();
        // Of a device that has had its launches: the next meeting's.
        wait(lock, [&] { return made_[device] < batch_; });
        self.number = group_.number * batch_ + made_[device]++;
        members_[device] = &self;
        changed_.notify_all();
        while (!self.has_left) {
            wait(lock, [&] { return self.has_left || (!is_running_ && is_complete()); });
            if (self.has_left) break;
            is_running_ = true;
            lock.unlock();
            run_until_one_ends();
            lock.lock();
            is_running_ = false;
            leave_ended();
            changed_.notify_all();
        }
        if (self.fault) std::rethrow_exception(self.fault);
    }

private:
    struct Member {
        Launch* launch;
        std::exception_ptr fault;
        uint64_t number = 0;
        bool has_begun = false, has_ended = false;  // for the thread that runs them
        bool has_left = false;                      // with the lock: its own thread may go on

        template <class Step>
        void take(Step&& step) {
            try {
                step();
            } catch (const Fault&) {
                fault = std::current_exception();
                has_ended = true;
            }
        }
    };

    void open() {
        made_.clear();
        finished_ = 0;
        group_.accesses = group_.ticks = 0;
        group_.has_clock = true;
        random_ = Random(settings().seed + group_.number * 0x632be59bd9b4e019ull);
        pace_.clear();
        round_ = 0;
    }
    bool is_complete() const { return members_.size() + finished_ == devices_; }

    template <class Condition>
    void wait(std::unique_lock<std::mutex>& lock, Condition&& condition) {
        if (!changed_.wait_for(lock, kPatience, condition))
            refuse("together=%zu, and a device has had no launch for a minute", devices_);
    }

    void leave_ended() {
        for (auto member = members_.begin(); member != members_.end();) {
            if (!member->second->has_ended) {
                ++member;
                continue;
            }
            member->second->has_left = true;
            if (made_[member->first] == batch_) ++finished_;
            member = members_.erase(member);
        }
        if (finished_ < devices_) return;
        ++group_.number;
        open();
    }

    // Each in its turn. With a seed one of them may be slow for a while, or all but one.
    void run_until_one_ends() {
        const bool is_random = settings().seed != 0;
        for (auto& [device, member] : members_) {
            if (!member->has_begun)
                member->take([&, one = member] { one->launch->begin(group_, one->number); });
            member->has_begun = true;
        }
        for (bool has_one_ended = false; !has_one_ended; ++round_, group_.ticks += kTicksPerRound) {
            if (is_random && round_ % kRoundsPerPace == 0)
                for (const auto& [device, member] : members_)
                    pace_[device] = random_() % 2 == 0 ? 1 : 1 + unsigned(random_() % 8);
            for (auto& [device, member] : members_) {
                if (!member->has_ended && !(is_random && random_() % std::max(pace_[device], 1u) != 0))
                    member->take([&, one = member] {
                        one->launch->pass();
                        if (!one->launch->is_over()) return;
                        one->launch->end();
                        one->has_ended = true;
                    });
                has_one_ended |= member->has_ended;
            }
        }
    }

    const size_t devices_;
    const uint64_t batch_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::map<int, Member*> members_;  // by device: its launch
    std::map<int, uint64_t> made_;    // launches of each device in this meeting
    size_t finished_ = 0;             // devices that have had all of theirs
    bool is_running_ = false;
    Group group_;
    Random random_{0};
    std::map<int, unsigned> pace_;
    uint64_t round_ = 0;
};

}  // namespace

void run(Launch& launch) {
    if (settings().together == 1) return run_alone(launch);
    static Meeting meeting(settings().together, settings().batch);
    meeting.run(launch);
}

}  // namespace hipcomm::amd
