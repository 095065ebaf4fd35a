/* Send: one message to one rank (messages/channel.h). A short one is written into the receiver's slot, and is
 * gone; a long one goes through the ring as fast as the receiver empties it. */
#include "channel.h"

/* What the receiver has refused, if it has. */
DEVICE bool give_up_if_refused(const Launch& whole_launch) {
    const Launch launch = new_phase(whole_launch);
    const uint64_t* refusal = refusal_words(launch, launch.args.rank, launch.args.root);
    const uint64_t word = load_relaxed(refusal);
    if (!UNLIKELY(word != 0)) return false;
    acquire_system();
    give_up_on_lengths(launch, uint32_t(word), load_relaxed(refusal + 2), load_relaxed(refusal + 1));
    return true;
}

template <class Ready>
DEVICE void wait_for_receiver(const Launch& launch, Ready ready) {
    spin_until(launch, ready, [&](uint32_t, uint64_t& started) IN_LINE {
        return give_up_if_refused(launch) || give_up_if_late(launch, started);
    });
}

/* All threads: wait until all of the receiver's blocks have taken message `number`; false in all threads
 * if the block has failed. */
DEVICE bool wait_until_taken(const Launch& whole_launch, uint32_t number) {
    const Launch launch = new_phase(whole_launch);
    const Geometry& g = launch.geometry;
    const uint64_t* taken = taken_words(launch, launch.args.rank, launch.args.root);
    for (uint32_t word = g.thread; word < launch.args.epoch_slots; word += g.threads)
        wait_for_receiver(launch,
                          [&]() IN_LINE { return says_done(load_relaxed(taken + word), number, HIPCOMM_CHANNEL_DONE); });
    if (g.thread == 0) give_up_if_refused(launch);
    acquire_system();
    block_barrier();
    return !block_failed(launch);
}

DEVICE void send_envelope(const Launch& launch) {
    if (launch.geometry.block != 0 || launch.geometry.thread != 0) return;
    const uint64_t extent = extent_of_message(launch);
    store_line(envelope_line(launch, launch.args.root, launch.args.rank),
               Pack{uint32_t(extent), uint32_t(extent >> 32), 0, 0}, launch.epoch);
}

DEVICE void send_lines(const Launch& whole_launch) {
    const Launch launch = new_phase(whole_launch);
    const Geometry& g = launch.geometry;
    const Message from = message(launch.args.send, launch.args.bytes);
    const uint32_t packs = uint32_t(packs_of(launch.args.bytes));
    for (uint32_t pack = g.block * g.threads + g.thread; pack < packs; pack += g.blocks * g.threads)
        store_line(slot_line(launch, launch.args.root, launch.args.rank, pack), load_message(from, pack),
                   launch.epoch);
}

/* ---- long messages -----------------------------------------------------------------------------------*/

/* All threads: the cell of step `step` is free, or false. */
DEVICE bool wait_for_room(const Launch& whole_launch, uint32_t step) {
    const Launch launch = new_phase(whole_launch);
    if (launch.geometry.thread == 0) {
        const uint64_t* taken =
            taken_words(launch, launch.args.rank, launch.args.root) + launch.geometry.block;
        wait_for_receiver(launch, [&]() IN_LINE {
            return says_done(load_relaxed(taken), launch.epoch, step + 1 - HIPCOMM_CHANNEL_RING);
        });
        acquire_system();
    }
    block_barrier();
    return !block_failed(launch);
}

DEVICE void push_chunk(const Launch& whole_launch, uint32_t step) {
    const Launch launch = new_phase(whole_launch);
    const uint32_t rank = launch.args.rank, receiver = launch.args.root;
    stage(launch, channel_cell(launch, receiver, rank, step), message(launch.args.send, launch.args.bytes),
          chunk_of_step(launch, packs_of(launch.args.bytes), step));
    block_barrier(); /* the stores of all threads come before the one release */
    if (launch.geometry.thread == 0)
        store_release(arrived_words(launch, receiver, rank) + launch.geometry.block,
                      channel_word(launch.epoch, step + 1));
}

DEVICE void push_chunks(const Launch& launch) {
    const uint32_t steps = steps_of_block(launch, packs_of(launch.args.bytes));
    NO_UNROLL
    for (uint32_t step = 0; step < steps; ++step) {
        if (step >= HIPCOMM_CHANNEL_RING && !wait_for_room(launch, step)) return;
        push_chunk(launch, step);
    }
}

DEVICE void send(const hipcommKernelArgs& args, const Geometry& g) {
    const Launch launch = begin_message(args, g, kSending);
    if (wait_until_taken(launch, launch.epoch - (is_staged(launch) ? 1 : HIPCOMM_CHANNEL_SLOTS))) {
        send_envelope(launch);
        if (is_staged(launch))
            push_chunks(launch);
        else
            send_lines(launch);
    }
    end_message(launch, kSending);
}

KERNEL(hipcomm_send, send, hipcommKernelArgs, HIPCOMM_MAX_THREADS)
