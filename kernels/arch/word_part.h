/* Parts of a line (launch/line.h) that are one 64-bit word: four bytes of data, and the epoch above them. */
#pragma once

DEVICE void store_part(char* part, const uint32_t (&data)[kPartData], uint32_t epoch) {
    store_relaxed(reinterpret_cast<uint64_t*>(part), uint64_t(epoch) << 32 | data[0]);
}
/* A part as it was loaded. */
struct LinePart {
    uint64_t bits;
};
DEVICE LinePart load_part(const char* part) { return {load_relaxed(reinterpret_cast<const uint64_t*>(part))}; }
/* The same, if it is wanted; else a part of `epoch`. */
DEVICE LinePart load_part_if(bool wanted, const char* part, uint32_t epoch) {
    return wanted ? load_part(part) : LinePart{uint64_t(epoch) << 32};
}
DEVICE uint32_t word_of(const LinePart& part, uint32_t) { return uint32_t(part.bits); }
DEVICE uint32_t epoch_of(const LinePart& part) { return uint32_t(part.bits >> 32); }
