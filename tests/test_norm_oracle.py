"""The norms' oracle against independent formulations: float64, exact search, cases made by hand."""

from __future__ import annotations

import itertools
from fractions import Fraction

import ml_dtypes
import norm_oracle
import numpy as np
import pytest
from norm_oracle import f32

DTYPES = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
BIG = 2.0**24


def draw(rows, hidden, dtype, seed=0):
    return (np.random.default_rng(seed).standard_normal((rows, hidden)) * 3).astype(dtype)


# ---- sums --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "total"),
    [
        (
            [BIG, 1, -BIG, 1],
            1,
        ),  # the left half rounds its 1 away, the right one does not
        ([BIG, -BIG, 1, 1], 2),
        ([1, BIG, 1, -BIG], 1),
        ([BIG, 1, 1, -BIG], 1),  # left 2^24, right -2^24 + 1; in sequence it would be 0
        ([BIG, 1, -BIG], 0),  # padded: (2^24 + 1) + (-2^24 + 0)
        ([-0.0], 0),
        ([-0.0, -0.0, -0.0], 0),
        ([], 0),
    ],
)
def test_tree_by_hand(terms, total):
    result = norm_oracle.row_sums(np.array([terms], f32))
    assert result.tolist() == [total] and not np.signbit(result[0])


def recursive_sum(terms):
    """The tree top down, where the oracle goes bottom up: split at the largest power of two below."""
    if len(terms) == 1:
        return terms[0]
    half = 1 << (len(terms) - 1).bit_length() - 1
    return f32(recursive_sum(terms[:half]) + recursive_sum(terms[half:]))


@pytest.mark.parametrize("hidden", (1, 2, 3, 5, 8, 31, 64, 100, 129, 1000))
def test_tree_is_recursive(hidden):
    rows = (np.random.default_rng(hidden).standard_normal((4, hidden)) * 1e3).astype(f32)
    expected = [recursive_sum(list(row)) for row in rows]
    assert norm_oracle.row_sums(rows).tolist() == [float(value) for value in expected]


def test_ranges_of_a_power_of_two_are_subtrees():
    """What the kernels rest on: partial sums of aligned ranges, put together by the same tree."""
    rows = (np.random.default_rng(5).standard_normal((3, 4096)) * 1e3).astype(f32)
    for width in (4, 8, 32, 512):
        parts = norm_oracle.row_sums(rows.reshape(-1, width)).reshape(3, -1)
        assert (norm_oracle.row_sums(parts) == norm_oracle.row_sums(rows)).all()


# ---- norms -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("hidden", (1, 3, 64, 2880))
def test_norms_are_those_of_float64(dtype, hidden):
    """Within an ulp of T and float32's error over the row: no factor, term or root is missing."""
    v, weight, bias = draw(5, hidden, dtype), draw(1, hidden, dtype, 1)[0], draw(1, hidden, dtype, 2)[0]
    wide, w, b = v.astype(np.float64), weight.astype(np.float64), bias.astype(np.float64)
    tolerance = float(ml_dtypes.finfo(dtype).eps) + 1e-5
    rms = wide / np.sqrt((wide**2).mean(axis=1, keepdims=True) + 1e-6) * (w + 1)
    got = norm_oracle.rms_norm(v, weight, 1e-6, 1.0).astype(np.float64)
    np.testing.assert_allclose(got, rms, rtol=tolerance, atol=1e-5)
    d = wide - wide.mean(axis=1, keepdims=True)
    layer = d / np.sqrt((d**2).mean(axis=1, keepdims=True) + 1e-5) * w + b
    got = norm_oracle.layer_norm(v, weight, bias, 1e-5).astype(np.float64)
    np.testing.assert_allclose(got, layer, rtol=tolerance, atol=2 * tolerance * np.abs(b).max() + 1e-5)


def test_residual_is_added_to_the_rounded_sum():
    """In bfloat16 256 + 1 is 256, so a residual of -256 gives 0, and 1 where the rounding is skipped."""
    bfloat16 = np.dtype(ml_dtypes.bfloat16)
    x = norm_oracle.sum_over_ranks([np.array([[256.0]], bfloat16), np.array([[1.0]], bfloat16)])
    assert norm_oracle.add_residual(x, np.array([[-256.0]], bfloat16)).tolist() == [[0.0]]


def test_specials():
    inf, nan = np.inf, np.nan
    with np.errstate(all="ignore"):
        rms = norm_oracle.rms_norm(
            np.array([[1, inf, -2], [1, nan, 2], [0, 0, 0], [1e30, -1, 0]], f32), None, 0.0
        )
    assert rms[0, [0, 2]].tolist() == [0, 0] and np.signbit(rms[0]).tolist()[2] and np.isnan(rms[0, 1])
    assert np.isnan(rms[1]).all() and np.isnan(rms[2]).all()
    assert rms[3].tolist() == [0, 0, 0] and np.signbit(rms[3]).tolist() == [False, True, False]
    assert np.isnan(norm_oracle.layer_norm(np.array([[1, inf, 2]], f32), None, None, 1e-5)).all()
    assert norm_oracle.rms_norm(np.zeros((1, 4), f32), None, 1e-6).tolist() == [[0, 0, 0, 0]]
    largest = np.full((1, 65536), 65504, np.float16)  # squares of float16 do not overflow
    assert norm_oracle.rms_norm(largest, None, 0.0).tolist() == np.ones((1, 65536)).tolist()


# ---- quantisation ------------------------------------------------------------------------------------------


def nearest_even(value, numbers):
    """The code of the nearest of *numbers* (by code, ascending, exact); the even code of a tie."""
    distances = [abs(Fraction(float(value)) - number) for number in numbers]
    least = min(distances)
    return min((code for code, distance in enumerate(distances) if distance == least), key=lambda c: c % 2)


E2M1_NUMBERS = [Fraction(x) for x in ("0", "1/2", "1", "3/2", "2", "3", "4", "6")]
E4M3_NUMBERS = [
    Fraction(m, 512) if e == 0 else Fraction(8 + m, 8) * Fraction(2) ** (e - 7)
    for e, m in itertools.product(range(16), range(8))
][:127]


def test_conversions_are_those_of_an_exact_search():
    rng = np.random.default_rng(3)
    ties = [0.25, 0.75, 1.25, 2.5, 3.5, 5, 17, 19, 0]
    y = np.concatenate([rng.standard_normal(300) * 100, ties]).astype(f32)
    codes = norm_oracle.fp8_given_scale(y[None], 1.0)[0]
    for value, code in zip(y, codes, strict=True):
        bounded = min(abs(float(value)), 448.0)
        assert code == nearest_even(bounded, E4M3_NUMBERS) | (0x80 if np.signbit(value) else 0), value
    block = np.zeros((1, 32), f32)
    for value in y:  # amax 4 to 8 (before rounding): a scale of 1
        block[0, :2] = [np.clip(value, -6, 6), 6]
        made = norm_oracle.mxfp4(block)
        assert made.scales.tolist() == [[127]]
        sign = 8 if np.signbit(value) else 0
        assert made.codes[0, 0] == nearest_even(abs(block[0, 0]), E2M1_NUMBERS) | sign, value


def test_fp8_scales():
    y = np.zeros((2, 96), f32)
    y[0, 0], y[0, 40], y[1, 70] = -448, 3.0, 1e-45
    made = norm_oracle.fp8_per_group(y, 32)
    assert made.scales.tolist() == [[1, float(f32(3) / f32(448)), 1], [1, 1, 1]]
    assert made.codes[0, [0, 40]].tolist() == [0xFE, 0x7E] and made.codes[1].max() == 0
    assert norm_oracle.fp8_per_group(y, 96).scales.shape == (2, 1)
    assert norm_oracle.fp8_per_group(y, 32, norm_oracle.E4M3FNUZ).codes[0, 40] == 0x7F  # 240


def test_e8m0_scales_round_up():
    y = np.zeros((1, 96), f32)
    y[0, 0], y[0, 32], y[0, 64] = 448, 448.5, 224
    made = norm_oracle.fp8_per_group_e8m0(y, 32)
    assert made.scales.tolist() == [[127, 128, 126]]
    assert made.codes[0, [0, 32, 64]].tolist() == [0x7E, 0x76, 0x7E]


@pytest.mark.parametrize(
    "amax, exponent", [(6.0, 0), (6.99, 0), (7.0, 1), (4.0, 0), (3.5, 0), (3.49, -1), (1.0, -2)]
)
def test_mxfp4_scales(amax, exponent):
    """(amax + a quarter of its binade) without its mantissa, over 4."""
    y = np.zeros((1, 32), f32)
    y[0, 3] = amax
    assert norm_oracle.mxfp4(y).scales.tolist() == [[127 + exponent]]


def test_nvfp4_scales():
    y = np.zeros((1, 48), f32)
    y[0, 0], y[0, 1], y[0, 16] = 6, -3, 1e-30
    made = norm_oracle.nvfp4(y, 2.0)
    assert made.scales.tolist() == [[0x40, 0, 0]]  # (6 / 6) * 2 = 2 in e4m3fn
    assert made.codes[0, :2].tolist() == [7, 0x8 | 5] and made.codes[0, 2:].max() == 0


@pytest.mark.parametrize("bad", (np.nan, np.inf, -np.inf))
def test_groups_with_specials(bad):
    y = np.ones((1, 64), f32)
    y[0, 5] = bad
    made = norm_oracle.fp8_per_group(y, 32)
    assert made.scales.view(np.uint32)[0, 0] == 0x7FC00000 and np.isfinite(made.scales[0, 1])
    assert (made.codes[0, :32] == 0x7F).all() and (made.codes[0, 32:] == 0x7E).all()
    assert norm_oracle.fp8_per_group_e8m0(y, 32).scales.tolist()[0][0] == 0xFF
    for four in (norm_oracle.mxfp4(y), norm_oracle.nvfp4(y, 1.0)):
        assert four.codes[0, :16].max() == 0 and four.codes[0, 32:].min() > 0
        assert four.scales[0, 0] == (0xFF if four.scales.shape[1] == 2 else 0x7F)
    given = norm_oracle.fp8_given_scale(y, 0.5)[0, 5]
    assert given == (0x7F if np.isnan(bad) else 0x7E if bad > 0 else 0xFE)


def test_signed_zeros():
    y = np.array([[-0.0, 1.0]], f32)
    assert norm_oracle.fp8_given_scale(y, 1.0)[0, 0] == 0x80
    assert norm_oracle.fp8_given_scale(y, 1.0, norm_oracle.E4M3FNUZ)[0, 0] == 0
    assert norm_oracle.mxfp4(y).codes[0, 0] == 8


# ---- layouts -----------------------------------------------------------------------------------------------


def test_layouts_element_by_element():
    rows, groups = 133, 6
    scales = np.random.default_rng(1).integers(1, 255, (rows, groups)).astype(np.uint8)
    packed, tiles = norm_oracle.packed_e8m0(scales), norm_oracle.swizzled(scales)
    stride = 136
    assert packed.size == 2 * stride * 4 and tiles.size == 2 * 2 * 512
    for m, k in itertools.product(range(rows), range(groups)):
        assert packed[((k // 4) * stride + m) * 4 + k % 4] == scales[m, k]
        tile = (m // 128) * 2 + k // 4
        assert tiles[tile * 512 + (m % 32) * 16 + (m % 128) // 32 * 4 + k % 4] == scales[m, k]
    assert np.count_nonzero(packed) == np.count_nonzero(tiles) == rows * groups
    floats = scales.astype(f32)
    column = norm_oracle.column_major(floats, 140, np.full(groups * 140, -1, f32))
    assert column[3 * 140 + 7] == floats[7, 3] and column[133] == -1
    assert norm_oracle.pack_fours(np.array([[1, 2, 3]], np.uint8)).tolist() == [[0x21, 0x03]]
