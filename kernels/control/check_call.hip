/* Call checking (HIPCOMM_CHECK=1), launched before each collective: do all ranks make the same call?
 *
 *   tell     send every peer what this rank is about to do, as lines
 *   compare  wait for the peers' calls; remember the first that differs
 *   judge    send every peer what was found; the finding of the lowest rank that has one is everybody's
 *
 * So all ranks end with the same two calls in their fault records, also those that a mismatch between two
 * others does not touch. One thread does it all: this is for finding bugs.
 */
#include "../launch/epoch.h"
#include "../launch/line.h"

/* Lines from each sender: its call and its counts, and then what it found. */
enum CallLine : uint32_t { kCall, kCounts, kFinding, kFirstCall, kFirstCounts, kSecondCall, kSecondCounts, kLines };

DEVICE Pack two_words(uint64_t a, uint64_t b) {
    return Pack{uint32_t(a), uint32_t(a >> 32), uint32_t(b), uint32_t(b >> 32)};
}
DEVICE uint64_t first_word(Pack pack) { return uint64_t(pack[1]) << 32 | pack[0]; }
DEVICE uint64_t second_word(Pack pack) { return uint64_t(pack[3]) << 32 | pack[2]; }

/* What two ranks said of one call; peer is 0 where they agree, else 1 + the second rank. */
struct Finding {
    uint32_t peer;
    Pack line[4]; /* kFirstCall .. kSecondCounts */
};

DEVICE void tell(const Launch& launch, const hipcommCheckArgs& args) {
    for (uint32_t peer = 0; peer < launch.args.world; ++peer) {
        if (peer == launch.args.rank) continue;
        const uint32_t first = launch.args.rank * kLines;
        send_line(launch, peer, first + kCall, two_words(args.call, args.count));
        send_line(launch, peer, first + kCounts, two_words(args.sent[peer], args.received[peer]));
    }
}

DEVICE Finding compare(const Launch& launch, const hipcommCheckArgs& args) {
    Finding finding{};
    for (uint32_t peer = 0; peer < launch.args.world; ++peer) {
        if (peer == launch.args.rank) continue;
        const Pack call = receive_line(launch, peer, peer * kLines + kCall);
        const Pack counts = receive_line(launch, peer, peer * kLines + kCounts);
        const bool same = first_word(call) == args.call && second_word(call) == args.count &&
                          first_word(counts) == args.received[peer] && second_word(counts) == args.sent[peer];
        if (same || finding.peer != 0) continue;
        finding = {peer + 1,
                   {two_words(args.call, args.count), two_words(args.sent[peer], args.received[peer]), call, counts}};
    }
    return finding;
}

DEVICE void report(const Launch& launch, uint32_t judge, const Finding& finding, uint64_t number) {
    if (!claim_fault(launch)) return;
    volatile hipcommStatus* status = launch.args.status;
    status->checked_calls = number;
    status->ranks[0] = judge;
    status->ranks[1] = finding.peer - 1;
    for (uint32_t side = 0; side < 2; ++side) {
        status->calls[side].call = first_word(finding.line[2 * side]);
        status->calls[side].count = second_word(finding.line[2 * side]);
        status->calls[side].sent = first_word(finding.line[2 * side + 1]);
        status->calls[side].received = second_word(finding.line[2 * side + 1]);
    }
    store_release(&launch.args.status->fault, uint32_t(HIPCOMM_FAULT_CALLS));
}

DEVICE void judge(const Launch& launch, const Finding& own, uint64_t number) {
    const uint32_t rank = launch.args.rank;
    for (uint32_t peer = 0; peer < launch.args.world; ++peer) {
        if (peer == rank) continue;
        send_line(launch, peer, rank * kLines + kFinding, Pack{own.peer, 0, 0, 0});
        for (uint32_t i = 0; i < 4; ++i) send_line(launch, peer, rank * kLines + kFirstCall + i, own.line[i]);
    }
    /* wait for all, although the first is enough: who reports early aborts the job under the others' feet */
    Finding first{};
    uint32_t judge = 0;
    for (uint32_t peer = 0; peer < launch.args.world; ++peer) {
        Finding finding = own;
        if (peer != rank) {
            finding.peer = receive_line(launch, peer, peer * kLines + kFinding)[0];
            for (uint32_t i = 0; i < 4; ++i)
                finding.line[i] = receive_line(launch, peer, peer * kLines + kFirstCall + i);
        }
        if (block_failed(launch)) return;
        if (first.peer != 0 || finding.peer == 0) continue;
        first = finding;
        judge = peer;
    }
    if (first.peer != 0) report(launch, judge, first, number);
}

/* Calls are counted here, not by epochs: a call may be several launches. */
DEVICE uint64_t count_call(const Launch& launch) {
    auto* calls = reinterpret_cast<uint64_t*>(launch.args.own_control + HIPCOMM_CHECKED_CALLS_OFFSET);
    const uint64_t number = load_relaxed(calls) + 1;
    store_relaxed(calls, number);
    return number;
}

DEVICE void check_call(const hipcommCheckArgs& args, const Geometry& g) {
    const Launch launch = begin_launch(args.common, g);
    if (is_behind_failure(launch)) return end_launch(launch);
    if (g.thread == 0) {
        const uint64_t number = count_call(launch);
        tell(launch, args);
        const Finding finding = compare(launch, args);
        if (!block_failed(launch)) judge(launch, finding, number);
    }
    end_launch(launch);
}

KERNEL(hipcomm_check_call, check_call, hipcommCheckArgs, HIPCOMM_MAX_THREADS)
