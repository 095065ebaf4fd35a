// Scalar operands, and what is said of registers that are read or written too early.
#include <cstdarg>
#include <cstdio>

#include "wave.h"

namespace hipcomm::amd {

void refuse(const char* format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    throw Fault(text);
}

uint32_t read_scalar(const Wave& wave, unsigned index) {
    if (__builtin_expect(!wave.is_readable(index), 0)) {
        if (wave.is_pending(index)) refuse("s%u is used before the wait for the load that writes it", index);
        refuse("s%u is used, and nothing that was written defines its bits %#x", index,
               wave.undefined_scalars[index]);
    }
    return wave.scalars[index];
}

void check_vector_bits(const Wave& wave, unsigned index, uint64_t lanes, uint32_t bits) {
    if (index >= wave.vector_count || wave.pending[index] != 0) refuse_vector_read(wave, index, lanes);
    for (uint64_t left = lanes & ~wave.readable[index]; left != 0; left &= left - 1) {
        const unsigned lane = unsigned(__builtin_ctzll(left));
        const uint32_t undefined = undefined_bits(wave, index, lane) & bits;
        if (undefined != 0)
            refuse("v%u is used, and nothing that was written defines its bits %#x in lane %u", index,
                   undefined, lane);
    }
}

void refuse_vector_read(const Wave& wave, unsigned index, uint64_t lanes) {
    if (index >= wave.vector_count)
        refuse("v%u: the kernel has declared %u vector registers", index, wave.vector_count);
    if (wave.pending[index] != 0) refuse("v%u is used before the wait for the load that writes it", index);
    refuse("v%u is used, and nothing has written it in lane %d", index,
           __builtin_ctzll(lanes & ~wave.readable[index]));
}

void refuse_vector_write(unsigned index) {
    refuse("v%u is written: it is not declared, or a load that has not been waited for writes it too", index);
}

void refuse_scalar_write(unsigned index) {
    refuse("s%u is written, and so it is by a load that has not been waited for", index);
}

uint64_t peek_operand(const Wave& wave, const Operand& operand) {
    switch (operand.place) {
        case Place::kConstant: return operand.value;
        case Place::kScc: return wave.scc;
        case Place::kScalar: {
            const uint64_t low = wave.scalars[operand.index];
            return scalars_of(wave, operand) == 1 ? low
                                                  : low | uint64_t(wave.scalars[operand.index + 1u]) << 32;
        }
        default: refuse("an operand is not scalar");
    }
}

uint64_t read_operand(const Wave& wave, const Operand& operand) {
    if (operand.place == Place::kScalar)
        for (unsigned index = operand.index; index < operand.index + scalars_of(wave, operand); ++index)
            read_scalar(wave, index);
    return peek_operand(wave, operand);
}

void write_operand(Wave& wave, const Operand& operand, uint64_t value) {
    if (operand.place == Place::kNone) return;  // the null register
    if (operand.place != Place::kScalar) refuse("a result is not scalar");
    wave.set_scalar(operand.index, uint32_t(value));
    if (registers_of(operand.type) == 2) wave.set_scalar(operand.index + 1u, uint32_t(value >> 32));
}

}  // namespace hipcomm::amd
