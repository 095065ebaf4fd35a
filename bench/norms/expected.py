"""What the norms must return: docs/numbers.md in NumPy, for the check before the timing."""

from __future__ import annotations

import numpy as np

from hipcomm_bench.memory import Array

f32 = np.float32


def sum_over_ranks(inputs: list[Array]) -> Array:
    """Return the ranks' rows added in rank order in float32, rounded to their dtype."""
    total = inputs[0].astype(f32)
    for each in inputs[1:]:
        total = total + each.astype(f32)
    return total.astype(inputs[0].dtype)


def add(x: Array, residual: Array) -> Array:
    """Return x + residual, added in float32, rounded to their dtype."""
    return (x.astype(f32) + residual.astype(f32)).astype(x.dtype)


def _row_sums(terms: Array) -> Array:
    """Return (+0) and the binary tree over the elements of each row, as a column."""
    rows, count = terms.shape
    level = np.zeros((rows, 1 << max(0, count - 1).bit_length()), f32)
    level[:, :count] = terms
    while level.shape[1] > 1:
        level = level[:, 0::2] + level[:, 1::2]
    sums: Array = f32(0) + level
    return sums


def rms_norm(v: Array, weight: Array, eps: float) -> Array:
    """Return the RMSNorm of the rows of v, in v's dtype."""
    wide = v.astype(f32)
    s = f32(1) / np.sqrt(_row_sums(wide * wide) / f32(v.shape[1]) + f32(eps))
    y: Array = ((wide * s) * (weight.astype(f32) + f32(0))).astype(v.dtype)
    return y


def layer_norm(v: Array, weight: Array, bias: Array, eps: float) -> Array:
    """Return the LayerNorm of the rows of v, in v's dtype."""
    wide = v.astype(f32)
    d = wide - _row_sums(wide) / f32(v.shape[1])
    s = f32(1) / np.sqrt(_row_sums(d * d) / f32(v.shape[1]) + f32(eps))
    y: Array = (((d * s) * (weight.astype(f32) + f32(0))) + bias.astype(f32)).astype(v.dtype)
    return y
