/* Flag-in-data lines: data travels in parts, each with a few words of data and the epoch, each stored and
 * loaded as one relaxed atomic. A reader that sees the epoch has the data: no fence, no barrier, any bit pattern
 * allowed. How much a part holds is the target's (kernels/arch/): 4 bytes in 8, or 12 in 16.
 *
 * A line is what one thread sends at a time, in as many parts as that takes: a pack; a wide line of as many
 * packs as fill their parts (line_packs.h): fewer bytes over the links, but more for each thread to do; or a unit
 * of what is reduced in registers (unit.h).
 *
 * Neighbouring threads move neighbouring lines, a part per access. So lines lie in groups of kLineGroup, part
 * by part: first part 0 of all lines of the group, then part 1, ... One access of a warp is then one
 * contiguous piece of memory, and goes over a link in few full packets. All parts are of one
 * size and aligned to it: where one kind of line has an epoch the other has an epoch too, and never data.
 */
#pragma once

#include "wait.h"

constexpr uint32_t kPackWords = HIPCOMM_PACK_BYTES / sizeof(uint32_t);

/* What a line carries. */
template <uint32_t kWords>
struct Words {
    uint32_t word[kWords];
};

template <uint32_t kWords>
constexpr uint32_t kPartsOf = (kWords + kPartData - 1) / kPartData;

template <uint32_t kWords>
constexpr uint32_t kLineBytesOf = kPartsOf<kWords> * kPartBytes;

static_assert(kLineBytesOf<kPackWords> == HIPCOMM_LINE_BYTES);

/* Distance between two parts of one line. */
constexpr uint32_t kPartStride = kLineGroup * kPartBytes;

/* The first part of line `index` of the lines that begin at `area`, all of one kind. */
template <uint32_t kWords>
DEVICE char* line_of(char* area, uint64_t index) {
    return area + index / kLineGroup * (kLineGroup * kLineBytesOf<kWords>) + index % kLineGroup * kPartBytes;
}

/* The lines that arrive at `rank`. */
DEVICE char* line_area(const Launch& launch, uint32_t rank, uint32_t parity) {
    return launch.args.control[rank] + HIPCOMM_LINES_OFFSET +
           parity * launch.args.line_capacity * HIPCOMM_LINE_BYTES;
}

template <uint32_t kWords>
DEVICE void store_line(char* line, const Words<kWords>& words, uint32_t epoch) {
    UNROLL(4)
    for (uint32_t part = 0; part < kPartsOf<kWords>; ++part) {
        uint32_t data[kPartData] = {};
        UNROLL(4)
        for (uint32_t i = 0; i < kPartData; ++i)
            if (part * kPartData + i < kWords) data[i] = words.word[part * kPartData + i];
        store_part(line + part * kPartStride, data, epoch);
    }
}

DEVICE void store_line(char* line, Pack pack, uint32_t epoch) {
    store_line(line, __builtin_bit_cast(Words<kPackWords>, pack), epoch);
}

/* A line as it was loaded. */
template <uint32_t kWords>
struct LineParts {
    LinePart part[kPartsOf<kWords>];
};

template <uint32_t kWords>
DEVICE LineParts<kWords> load_parts(const char* line) {
    LineParts<kWords> parts;
    UNROLL(4)
    for (uint32_t i = 0; i < kPartsOf<kWords>; ++i) parts.part[i] = load_part(line + i * kPartStride);
    return parts;
}

/* Whether all of it is of this epoch; if so, `words` is what it carries. */
template <uint32_t kWords>
DEVICE bool open_parts(const LineParts<kWords>& parts, Words<kWords>& words, uint32_t epoch) {
    bool fresh = true;
    UNROLL(4)
    for (uint32_t i = 0; i < kPartsOf<kWords>; ++i) fresh &= epoch_of(parts.part[i]) == epoch;
    UNROLL(16)
    for (uint32_t i = 0; i < kWords; ++i) words.word[i] = word_of(parts.part[i / kPartData], i % kPartData);
    return fresh;
}

template <uint32_t kWords>
DEVICE bool load_line(const char* line, Words<kWords>& words, uint32_t epoch) {
    return open_parts(load_parts<kWords>(line), words, epoch);
}

template <uint32_t kWords>
DEVICE void send_words(const Launch& launch, uint32_t peer, uint64_t index, const Words<kWords>& words) {
    store_line(line_of<kWords>(line_area(launch, peer, launch.parity()), index), words, launch.flag());
}
DEVICE void send_line(const Launch& launch, uint32_t peer, uint64_t index, Pack pack) {
    send_words(launch, peer, index, __builtin_bit_cast(Words<kPackWords>, pack));
}

/* What `peer` sends to line `index` of this rank; anything if the wait failed. */
template <uint32_t kWords>
DEVICE Words<kWords> receive_words(const Launch& launch, uint32_t peer, uint64_t index) {
    const char* line = line_of<kWords>(line_area(launch, launch.args.rank, launch.parity()), index);
    Words<kWords> words{};
    wait_until(launch, peer, [&] { return load_line(line, words, launch.flag()); });
    return words;
}
DEVICE Pack receive_line(const Launch& launch, uint32_t peer, uint64_t index) {
    return __builtin_bit_cast(Pack, receive_words<kPackWords>(launch, peer, index));
}
