/* Receive: one message from one rank (messages/channel.h), taken where the sender has put it. */
#include "channel.h"

template <class Ready>
DEVICE void wait_for_sender(const Launch& launch, Ready ready) {
    spin_until(launch, ready, [&](uint32_t, uint64_t& started) { return give_up_if_late(launch, started); });
}

/* The pack that arrives in a line; anything if the wait failed. */
DEVICE Pack receive_from(const Launch& launch, const char* line) {
    Words<kPackWords> arrived{};
    wait_for_sender(launch, [&] { return load_line(line, arrived, launch.epoch); });
    return __builtin_bit_cast(Pack, arrived);
}

/* Tell the sender that its message of this extent is not what this rank expects. */
DEVICE void refuse(const Launch& whole_launch, uint64_t sent) {
    const Launch launch = new_phase(whole_launch);
    uint64_t* refusal = refusal_words(launch, launch.args.root, launch.args.rank);
    store_relaxed(refusal + 1, extent_of_message(launch));
    store_relaxed(refusal + 2, sent);
    store_release(refusal, channel_word(1, launch.epoch));
    give_up_on_lengths(launch, launch.epoch, sent, extent_of_message(launch));
}

/* All threads: wait until the message is there, if only in part, and see that it is as long as it should
 * be, and of the same dtype. The block has failed if it is not. */
DEVICE void open_envelope(const Launch& whole_launch) {
    const Launch launch = new_phase(whole_launch);
    const Pack envelope = receive_from(launch, envelope_line(launch, launch.args.rank, launch.args.root));
    if (block_failed(launch)) return;
    const uint64_t sent = uint64_t(envelope[1]) << 32 | envelope[0];
    if (UNLIKELY(sent != extent_of_message(launch))) refuse(launch, sent);
}

DEVICE void collect_lines(const Launch& whole_launch) {
    const Launch launch = new_phase(whole_launch);
    const Geometry& g = launch.geometry;
    const Message to = message(launch.args.recv, launch.args.bytes);
    const uint32_t packs = uint32_t(packs_of(launch.args.bytes));
    for (uint32_t pack = g.block * g.threads + g.thread; pack < packs; pack += g.blocks * g.threads) {
        if (block_failed(launch)) break;
        const Pack arrived = receive_from(launch, slot_line(launch, launch.args.rank, launch.args.root, pack));
        if (block_failed(launch)) break;
        store_message(to, pack, arrived);
    }
}

/* ---- long messages -----------------------------------------------------------------------------------*/

/* All threads: step `step` has arrived, or false. */
DEVICE bool wait_for_chunk(const Launch& whole_launch, uint32_t step) {
    const Launch launch = new_phase(whole_launch);
    if (launch.geometry.thread == 0 && !block_failed(launch)) {
        const uint64_t* arrived =
            arrived_words(launch, launch.args.rank, launch.args.root) + launch.geometry.block;
        wait_for_sender(launch, [&] {
            const uint64_t word = load_relaxed(arrived);
            return uint32_t(word >> 32) == launch.epoch && uint32_t(word) > step;
        });
        acquire_system();
    }
    block_barrier(); /* the acquire of one thread comes before the loads of all */
    return !block_failed(launch);
}

DEVICE void collect_chunk(const Launch& whole_launch, uint32_t step) {
    const Launch launch = new_phase(whole_launch);
    const uint32_t rank = launch.args.rank, sender = launch.args.root;
    unstage(launch, message(launch.args.recv, launch.args.bytes),
            chunk_of_step(launch, packs_of(launch.args.bytes), step), channel_cell(launch, rank, sender, step));
    block_barrier(); /* the loads of all threads come before the cell is free */
    if (launch.geometry.thread == 0)
        store_release(taken_words(launch, sender, rank) + launch.geometry.block,
                      channel_word(launch.epoch, step + 1));
}

DEVICE void collect_chunks(const Launch& launch) {
    const uint32_t steps = steps_of_block(launch, packs_of(launch.args.bytes));
    NO_UNROLL
    for (uint32_t step = 0; step < steps; ++step) {
        if (!wait_for_chunk(launch, step)) return;
        collect_chunk(launch, step);
    }
}

/* ---- the end -----------------------------------------------------------------------------------------*/

/* All threads: a flag that nobody has overwritten for a whole turn of the message numbers would be taken
 * for fresh. So the last messages before each multiple of the period wipe what they do not use: their slot
 * is this rank's until it acknowledges them, and ARRIVED until the next long message, which waits for
 * that. What wipes is their own number, which does not come again before the next wipe. */
DEVICE void wipe_unused_flags(const Launch& whole_launch) {
    if (!UNLIKELY((whole_launch.epoch + HIPCOMM_CHANNEL_SLOTS) % HIPCOMM_MESSAGE_SCRUB_PERIOD < HIPCOMM_CHANNEL_SLOTS)) return;
    const Launch launch = new_phase(whole_launch);
    const hipcommKernelArgs& args = launch.args;
    const Geometry& g = launch.geometry;
    const uint32_t used = is_staged(launch) ? 0 : uint32_t(packs_of(args.bytes));
    for (uint32_t line = used + g.block * g.threads + g.thread; line < HIPCOMM_CHANNEL_SLOT_LINES(args.world);
         line += g.blocks * g.threads)
        store_line(slot_line(launch, args.rank, args.root, line), Pack{}, launch.epoch);
    for (uint32_t word = g.block + g.blocks * g.thread; word < args.epoch_slots; word += g.blocks * g.threads)
        store_relaxed(arrived_words(launch, args.rank, args.root) + word, channel_word(launch.epoch, 0));
}

/* All threads: tell the sender that this block has taken the message. */
DEVICE void acknowledge(const Launch& whole_launch) {
    const Launch launch = new_phase(whole_launch);
    const Geometry& g = launch.geometry;
    block_barrier(); /* what all threads have read and wiped comes before the acknowledgement */
    if (block_failed(launch)) return;
    uint64_t* taken = taken_words(launch, launch.args.root, launch.args.rank);
    for (uint32_t word = g.block + g.blocks * g.thread; word < launch.args.epoch_slots;
         word += g.blocks * g.threads)
        store_release(taken + word, channel_word(launch.epoch, HIPCOMM_CHANNEL_DONE));
}

DEVICE void recv(const hipcommKernelArgs& args, const Geometry& g) {
    const Launch launch = begin_message(args, g, kReceiving);
    open_envelope(launch);
    if (is_staged(launch))
        collect_chunks(launch);
    else
        collect_lines(launch);
    wipe_unused_flags(launch);
    acknowledge(launch);
    end_message(launch, kReceiving);
}

KERNEL(hipcomm_recv, recv, hipcommKernelArgs, HIPCOMM_MAX_THREADS)
