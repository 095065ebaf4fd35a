/* What a norm computes of one element, and of a row's sums (docs/numbers.md). Divisions and square roots are correctly
 * rounded on every target; the build turns contraction off. */
#pragma once

#include "dtype.h"

/* v, before it is rounded to T. */
DEVICE float with_residual(float sum, float residual) { return sum + residual; }

DEVICE float mean_of(float sum, uint32_t hidden) { return sum / float(hidden); }

DEVICE float inverse_deviation(float squares, uint32_t hidden, float eps) {
    return 1.0f / __builtin_sqrtf(squares / float(hidden) + eps);
}

/* `centred` is v, or v - mean. */
DEVICE float scaled(float centred, float s, float weight) { return (centred * s) * weight; }
