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
        if (wave.pending_scalars[index / 64] >> index % 64 & 1)
            refuse("s%u is used before the wait for the load that writes it", index);
        refuse("s%u is read, and nothing has written it", index);
    }
    return wave.scalars[index];
}

void refuse_vector_read(const Wave& wave, unsigned index, uint64_t lanes) {
    if (index >= wave.vector_count) refuse("v%u: the kernel has declared %u vector registers", index, wave.vector_count);
    if (wave.pending[index] != 0) refuse("v%u is used before the wait for the load that writes it", index);
    refuse("v%u is read, and nothing has written it in lane %d", index, __builtin_ctzll(lanes & ~wave.readable[index]));
}

void refuse_vector_write(unsigned index) {
    refuse("v%u is written: it is not declared, or a load that has not been waited for writes it too", index);
}

void refuse_scalar_write(unsigned index) {
    refuse("s%u is written, and so it is by a load that has not been waited for", index);
}

uint64_t read_operand(const Wave& wave, const Operand& operand) {
    switch (operand.place) {
        case Place::kConstant: return operand.value;
        case Place::kScc: return wave.scc;
        case Place::kScalar: {
            const uint64_t low = read_scalar(wave, operand.index);
            if (registers_of(operand.type) == 1 && operand.type != Type::kMask) return low;
            if (operand.type == Type::kMask && wave.target->lanes == 32) return low;
            return low | uint64_t(read_scalar(wave, operand.index + 1u)) << 32;
        }
        default: refuse("an operand is not scalar");
    }
}

bool is_undefined(const Wave& wave, const Operand& operand) {
    for (unsigned word = 0; word < registers_of(operand.type); ++word) {
        const unsigned index = operand.index + word;
        if (wave.is_readable(index) || (wave.pending_scalars[index / 64] >> index % 64 & 1)) return false;
    }
    return true;
}

uint64_t peek_operand(const Wave& wave, const Operand& operand) {
    if (operand.place != Place::kScalar) return read_operand(wave, operand);
    uint64_t value = 0;
    for (unsigned word = 0; word < registers_of(operand.type); ++word) {
        const unsigned index = operand.index + word;
        const bool is_pending = wave.pending_scalars[index / 64] >> index % 64 & 1;
        value |= uint64_t(is_pending ? read_scalar(wave, index) : wave.scalars[index]) << 32 * word;
    }
    return value;
}

void write_operand(Wave& wave, const Operand& operand, uint64_t value) {
    if (operand.place == Place::kNone) return;  // the null register
    if (operand.place != Place::kScalar) refuse("a result is not scalar");
    wave.set_scalar(operand.index, uint32_t(value));
    if (registers_of(operand.type) == 2) wave.set_scalar(operand.index + 1u, uint32_t(value >> 32));
}

}  // namespace hipcomm::amd
