/* Floats as bits. For arch/ headers too: wants DEVICE, and nothing else. */
#pragma once

#include <stdint.h>

DEVICE float float_from_bits(uint32_t bits) { return __builtin_bit_cast(float, bits); }
DEVICE uint32_t bits_of_float(float value) { return __builtin_bit_cast(uint32_t, value); }
