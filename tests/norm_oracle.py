"""What the norms must return, in plain NumPy: docs/numbers.md, operation by operation.

Everything is float32, one rounding at a time. A row's sum is the tree of that page: terms padded with +0 to a
power of two, neighbours added until one is left. Nothing here looks like the kernels, which own ranges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import oracle
from oracle import Array

E4M3FN = np.dtype(ml_dtypes.float8_e4m3fn)
E4M3FNUZ = np.dtype(ml_dtypes.float8_e4m3fnuz)
E2M1 = np.dtype(ml_dtypes.float4_e2m1fn)
E8M0_ONE, E8M0_NAN = 127, 0xFF
MAX_E2M1 = np.float32(6)
QUIET_NAN = np.array(0x7FC00000, np.uint32).view(np.float32)

f32 = np.float32


def largest(fp8: np.dtype[Any]) -> Any:
    """MAX of an fp8 format."""
    return f32(240 if fp8 == E4M3FNUZ else 448)


# ---- sums ------------------------------------------------------------------------------------------------


def row_sums(terms: Array) -> Array:
    """(+0) and the tree over each row of float32 terms; shape (rows,)."""
    assert terms.dtype == np.float32
    rows, count = terms.shape
    width = 1 << max(0, count - 1).bit_length()
    level = np.zeros((rows, width), np.float32)
    level[:, :count] = terms
    with np.errstate(all="ignore"):
        while level.shape[1] > 1:
            level = level[:, 0::2] + level[:, 1::2]
        return f32(0) + level[:, 0]


def sum_over_ranks(inputs: list[Array]) -> Array:
    """The ranks' inputs added in rank order in float32, rounded to their dtype."""
    return oracle.reduce(inputs, "sum")


def add_residual(x: Array, residual: Array | None) -> Array:
    """residual_out: x + residual, rounded to x's dtype."""
    if residual is None:
        return x.copy()
    with np.errstate(all="ignore"):
        return (x.astype(f32) + residual.astype(f32)).astype(x.dtype)


# ---- norms -----------------------------------------------------------------------------------------------


def _weight(weight: Array | None, offset: float, hidden: int) -> Array:
    own = np.ones(hidden, f32) if weight is None else weight.astype(f32)
    return own + f32(offset)


def _inverse_deviation(squares: Array, hidden: int, eps: float) -> Array:
    return f32(1) / np.sqrt(row_sums(squares) / f32(hidden) + f32(eps))


def rms_norm(v: Array, weight: Array | None, eps: float, weight_offset: float = 0.0) -> Array:
    """RMSNorm of the rows of v, in v's dtype."""
    hidden = v.shape[1]
    wide = v.astype(f32)
    with np.errstate(all="ignore"):
        s = _inverse_deviation(wide * wide, hidden, eps)
        return ((wide * s[:, None]) * _weight(weight, weight_offset, hidden)).astype(v.dtype)


def layer_norm(
    v: Array, weight: Array | None, bias: Array | None, eps: float, weight_offset: float = 0.0
) -> Array:
    """LayerNorm of the rows of v, in v's dtype."""
    hidden = v.shape[1]
    wide = v.astype(f32)
    with np.errstate(all="ignore"):
        mean = row_sums(wide) / f32(hidden)
        d = wide - mean[:, None]
        s = _inverse_deviation(d * d, hidden, eps)
        scaled = (d * s[:, None]) * _weight(weight, weight_offset, hidden)
        if bias is not None:
            scaled = scaled + bias.astype(f32)
        return scaled.astype(v.dtype)


def qk_norm(parts: list[Array], rank: int, weight: Array | None, eps: float) -> Array:
    """RMSNorm of rows of which *parts* are the ranks' parts: that of *rank*, with its part of the weight."""
    own = parts[rank].astype(f32)
    with np.errstate(all="ignore"):
        squares = [row_sums(part.astype(f32) * part.astype(f32)) for part in parts]
        total = squares[0]
        for other in squares[1:]:
            total = total + other
        s = f32(1) / np.sqrt(total / f32(own.shape[1] * len(parts)) + f32(eps))
        return ((own * s[:, None]) * _weight(weight, 0.0, own.shape[1])).astype(parts[rank].dtype)


# ---- quantisation ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Codes:
    """Codes and scales by their places in the row: codes (rows, hidden), scales (rows, groups).

    codes are bytes of fp8, or 4-bit numbers one to a byte; scales are float32, or bytes of e8m0 or e4m3fn.
    """

    codes: Array
    scales: Array


def _in_groups(y: Array, group: int) -> Array:
    """y in float32 as (rows, groups, group), zeros behind the row's end."""
    rows, hidden = y.shape
    groups = -(-hidden // group)
    padded = np.zeros((rows, groups * group), f32)
    padded[:, :hidden] = y.astype(f32)
    return padded.reshape(rows, groups, group)


def _fp8(values: Array, fp8: np.dtype[Any]) -> Array:
    """Codes of clamped values; a NaN has the NaN code of docs/numbers.md."""
    limit = largest(fp8)
    codes = np.clip(values, -limit, limit).astype(fp8).view(np.uint8)
    return np.where(np.isnan(values), np.uint8(0x80 if fp8 == E4M3FNUZ else 0x7F), codes)


def _e2m1(values: Array) -> Array:
    """Codes of clamped values; a NaN has 0."""
    codes = np.clip(values, -MAX_E2M1, MAX_E2M1).astype(E2M1).view(np.uint8) & 0xF
    return np.where(np.isnan(values), np.uint8(0), codes)


def _flat(grouped: Array, hidden: int) -> Array:
    rows, groups, group = grouped.shape
    return grouped.reshape(rows, groups * group)[:, :hidden]


def fp8_given_scale(y: Array, scale: float, fp8: np.dtype[Any] = E4M3FN) -> Array:
    """Codes only; the scale is the caller's."""
    with np.errstate(all="ignore"):
        return _fp8(y.astype(f32) / f32(scale), fp8)


def fp8_per_group(y: Array, group: int, fp8: np.dtype[Any] = E4M3FN) -> Codes:
    """float32 scales. Per token: a group of at least the row's length."""
    grouped = _in_groups(y, group)
    amax = np.abs(grouped).max(axis=2)
    with np.errstate(all="ignore"):
        scale = amax / largest(fp8)
        scale = np.where(scale == 0, f32(1), scale)
        scale = np.where(np.isfinite(amax), scale, QUIET_NAN)
        return Codes(_flat(_fp8(grouped / scale[:, :, None], fp8), y.shape[1]), scale)


def power_of_two(e8m0: Array) -> Array:
    """2^(byte - 127) in float32; byte 0 is a denormal."""
    return np.ldexp(f32(1), e8m0.astype(np.int32) - 127).astype(f32)


def fp8_per_group_e8m0(y: Array, group: int, fp8: np.dtype[Any] = E4M3FN) -> Codes:
    """e8m0 scales, rounded up."""
    grouped = _in_groups(y, group)
    amax = np.abs(grouped).max(axis=2)
    with np.errstate(all="ignore"):
        bits = (amax / largest(fp8)).view(np.uint32)
    rounded_up = (bits >> 23) + ((bits & 0x7FFFFF) != 0)
    byte = np.where(bits == 0, E8M0_ONE, rounded_up).astype(np.uint8)
    finite = np.isfinite(amax)
    with np.errstate(all="ignore"):
        scaled = grouped / np.where(finite, power_of_two(byte), QUIET_NAN)[:, :, None]
    codes = _flat(_fp8(scaled, fp8), y.shape[1])
    return Codes(codes, np.where(finite, byte, E8M0_NAN).astype(np.uint8))


def mxfp4(y: Array) -> Codes:
    """Blocks of 32, e8m0 scales."""
    grouped = _in_groups(y, 32)
    amax = np.abs(grouped).max(axis=2)
    finite = np.isfinite(amax)
    exponent = ((amax.view(np.uint32) + np.uint32(0x200000)) >> 23).astype(np.int32) - 2
    byte = np.where(amax == 0, E8M0_ONE, np.clip(exponent, 0, 254)).astype(np.uint8)
    with np.errstate(all="ignore"):
        codes = _e2m1(np.where(finite[:, :, None], grouped, f32(0)) / power_of_two(byte)[:, :, None])
    codes = np.where(finite[:, :, None], codes, 0)
    return Codes(_flat(codes, y.shape[1]), np.where(finite, byte, E8M0_NAN).astype(np.uint8))


def nvfp4(y: Array, global_scale: float) -> Codes:
    """Blocks of 16, e4m3fn scales."""
    grouped = _in_groups(y, 16)
    amax = np.abs(grouped).max(axis=2)
    finite = np.isfinite(amax)
    with np.errstate(all="ignore"):
        byte = _fp8((amax / f32(6)) * f32(global_scale), E4M3FN)
        scale = byte.view(E4M3FN).astype(f32)
        factor = np.where(scale == 0, f32(0), f32(global_scale) / scale)
        codes = _e2m1(np.where(finite[:, :, None], grouped, f32(0)) * factor[:, :, None])
    codes = np.where(finite[:, :, None], codes, 0)
    return Codes(_flat(codes, y.shape[1]), np.where(finite, byte, 0x7F).astype(np.uint8))


# ---- layouts -----------------------------------------------------------------------------------------------


def pack_fours(codes: Array) -> Array:
    """4-bit codes two to a byte, the even element low; (rows, ceil(hidden / 2))."""
    rows, hidden = codes.shape
    even = np.zeros((rows, -(-hidden // 2) * 2), np.uint8)
    even[:, :hidden] = codes
    return even[:, 0::2] | even[:, 1::2] << 4


def column_major(scales: Array, stride: int, untouched: Array) -> Array:
    """float32 scales at [group * stride + row]; the rest is what was there: *untouched*, flat."""
    placed = untouched.copy()
    rows, groups = scales.shape
    placed.reshape(groups, stride)[:, :rows] = scales.T
    return placed


def packed_e8m0(scales: Array) -> Array:
    """Bytes of the words (groups / 4, rows), four groups a word; both rounded up to fours, zeros behind."""
    rows, groups = scales.shape
    padded = np.zeros((-(-rows // 4) * 4, -(-groups // 4) * 4), np.uint8)
    padded[:rows, :groups] = scales
    return np.ascontiguousarray(
        padded.reshape(len(padded), padded.shape[1] // 4, 4).transpose(1, 0, 2)
    ).reshape(-1)


def swizzled(scales: Array) -> Array:
    """Bytes in tiles of 128 rows and 4 groups, zeros behind the last row and group."""
    rows, groups = scales.shape
    tiles, columns = -(-rows // 128), -(-groups // 4)
    padded = np.zeros((tiles * 128, columns * 4), np.uint8)
    padded[:rows, :groups] = scales
    #                       tile, m / 32, m % 32, column, k % 4
    split = padded.reshape(tiles, 4, 32, columns, 4)
    return np.ascontiguousarray(split.transpose(0, 3, 2, 1, 4)).reshape(-1)
