/* Where signals are, and what one says (hipcomm/abi/slabs.h has the layout). */
#pragma once

#include "launch.h"

DEVICE uint64_t* signal_slot_by_index(const Launch& launch, uint32_t rank, uint32_t parity, uint64_t index) {
    return reinterpret_cast<uint64_t*>(launch.args.control[rank] + HIPCOMM_SIGNALS_OFFSET +
                                       parity * HIPCOMM_SIGNALS_BYTES_PER_PARITY + index * HIPCOMM_SIGNAL_BYTES);
}

/* Where `sender` leaves word for `rank`. */
DEVICE uint64_t* signal_slot(const Launch& launch, uint32_t rank, uint32_t phase, uint32_t sender) {
    const uint64_t index =
        (uint64_t(launch.geometry.block) * HIPCOMM_SIGNAL_PHASES + phase) * HIPCOMM_MAX_RANKS + sender;
    return signal_slot_by_index(launch, rank, launch.parity(), index);
}

/* Where `sender` tells `rank` what call it makes. */
DEVICE uint64_t* told_slot(const Launch& launch, uint32_t rank, uint32_t parity, uint32_t sender) {
    return reinterpret_cast<uint64_t*>(launch.args.control[rank] + HIPCOMM_TOLD_OFFSET) + parity * HIPCOMM_MAX_RANKS +
           sender;
}

DEVICE uint64_t make_signal(const Launch& launch, uint32_t steps) {
    return uint64_t(launch.flag()) << HIPCOMM_SIGNAL_FLAG_SHIFT |
           uint64_t(launch.args.algorithm) << HIPCOMM_SIGNAL_ALGORITHM_SHIFT | steps;
}
DEVICE uint32_t flag_of(uint64_t signal) { return uint32_t(signal >> HIPCOMM_SIGNAL_FLAG_SHIFT); }
DEVICE bool is_of_this_launch(const Launch& launch, uint64_t signal) { return flag_of(signal) == launch.flag(); }
DEVICE uint32_t algorithm_of(uint64_t signal) {
    return uint32_t(signal) >> HIPCOMM_SIGNAL_ALGORITHM_SHIFT;
}
/* Of this epoch, and of another call. */
DEVICE bool is_of_another_call(const Launch& launch, uint64_t signal) {
    constexpr uint32_t epoch_bits = (1u << HIPCOMM_FLAG_EPOCH_BITS) - 1;
    const uint32_t difference = flag_of(signal) ^ launch.flag();
    return flag_of(signal) != 0 && (difference & epoch_bits) == 0 &&
           (difference != 0 || algorithm_of(signal) != launch.args.algorithm);
}
DEVICE uint32_t steps_of(uint64_t signal) { return uint32_t(signal) & HIPCOMM_SIGNAL_STEPS_MASK; }
