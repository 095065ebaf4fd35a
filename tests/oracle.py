"""What the collectives must return, in plain NumPy, and inputs that bring out the differences.

The oracle follows the words of the contract and none of the kernels' code: elements are combined in
rank order; the narrow floats and float32 accumulate in float32 and float64 in float64, and are rounded
once, to nearest even; an average divides before that rounding; maximum and minimum are IEEE 754-2019's;
integers wrap, and their average truncates toward zero.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

from hipcomm.buffers.dtypes import CODES
from hipcomm.plan import REDUCTIONS

Array = np.ndarray[Any, Any]

ALL_DTYPES = tuple(dtype.name for dtype in CODES)
FLOAT8 = tuple(name for name in ALL_DTYPES if name.startswith("float8"))
DTYPES = tuple(name for name in ALL_DTYPES if name not in FLOAT8)
FLOATS = tuple(name for name in DTYPES if "float" in name)
OPERATIONS = tuple(REDUCTIONS)
KINDS = ("bits", "plain", "special")
ROOTED = ("reduce", "gather")  # only the root receives


@functools.cache
def dtype_of(name: str) -> np.dtype[Any]:
    """The NumPy dtype of a name in DTYPES."""
    return np.dtype(getattr(ml_dtypes, name, name))


@functools.cache
def is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.name in FLOATS + FLOAT8


# ---- results ---------------------------------------------------------------------------------------


def reduce(inputs: list[Array], op: str) -> Array:
    """The all-reduce of the ranks' inputs."""
    dtype = inputs[0].dtype
    if not is_float(dtype):
        return _reduce_integers(inputs, op)
    with np.errstate(all="ignore"):
        wide = np.float64 if dtype == np.float64 else np.float32
        total = inputs[0].astype(wide)
        for operand in inputs[1:]:
            total = _combine(total, operand.astype(wide), op)
        if op == "avg":
            total = total / wide(len(inputs))
        return total.astype(dtype)


def results(
    operation: str,
    sent: list[Array],
    op: str = "sum",
    root: int = 0,
    rows: int = 1,
    counts: Array | None = None,
) -> list[Array | None]:
    """What each rank must receive, by rank, of what all ranks have sent; None: nothing.

    rows: of a part along dimension 1. counts: where parts are unequal, what rank i sends to rank j.
    Of the ranks that send nothing, the input is not looked at.
    """
    world = len(sent)
    if operation == "broadcast":
        return [sent[root]] * world
    if operation == "scatter":
        return list(np.split(sent[root], world))
    if operation == "reduce_scatter":
        whole = reduce(sent, op).reshape(rows, world, -1)
        return [whole[:, rank].reshape(-1) for rank in range(world)]
    if operation == "all_to_all":
        return list(np.stack(sent).reshape(world, world, -1).swapaxes(0, 1).reshape(world, -1))
    if operation == "all_to_all_v":
        assert counts is not None
        parts = [np.split(part, count.cumsum()[:-1]) for part, count in zip(sent, counts, strict=True)]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]
    if operation in ("all_reduce", "reduce"):
        result = reduce(sent, op)
    else:  # all_gather, all_gather_v, all_gather_rows, gather
        result = np.concatenate([part.reshape(rows, part.size // rows) for part in sent], axis=1).reshape(-1)
    return [result if operation not in ROOTED or rank == root else None for rank in range(world)]


def _combine(a: Array, b: Array, op: str) -> Array:
    if op in ("sum", "avg"):
        return np.add(a, b)
    if op == "prod":
        return np.multiply(a, b)
    if op == "min":
        return -_maximum(-a, -b)
    return _maximum(a, b)


def _maximum(a: Array, b: Array) -> Array:
    """IEEE 754-2019 maximum: NaN if either is, and +0 is larger than -0."""
    equal = np.where(np.signbit(a), b, a)
    larger = np.where(a == b, equal, np.where(a > b, a, b))
    return np.where(np.isnan(a) | np.isnan(b), a.dtype.type(np.nan), larger)


def _reduce_integers(inputs: list[Array], op: str) -> Array:
    total = inputs[0].copy()
    for operand in inputs[1:]:
        if op in ("sum", "avg"):
            total += operand
        elif op == "prod":
            total *= operand
        else:
            total = np.maximum(total, operand) if op == "max" else np.minimum(total, operand)
    if op != "avg":
        return total
    ranks = total.dtype.type(len(inputs))
    quotient, remainder = np.divmod(total, ranks)  # rounds down
    return (quotient + ((remainder != 0) & (total < 0))).astype(total.dtype)


# ---- comparison ------------------------------------------------------------------------------------


def difference(got: Array, expected: Array) -> str:
    """Where two arrays differ in their bits, any NaN being as good as another; empty if nowhere."""
    assert got.shape == expected.shape and got.dtype == expected.dtype, (got, expected)
    same = bits(got) == bits(expected)
    if same.all():
        return ""
    if is_float(got.dtype):
        same |= np.isnan(got) & np.isnan(expected)
    wrong = np.flatnonzero(~same)
    if not wrong.size:
        return ""
    first = int(wrong[0])
    return (
        f"{wrong.size} of {got.size} elements are wrong; the first, element {first}, is {got[first]!r} "
        f"(bits {bits(got)[first]:#x}) instead of {expected[first]!r} (bits {bits(expected)[first]:#x}); "
        f"the last is element {int(wrong[-1])}"
    )


def bits(array: Array) -> Array:
    """The elements as unsigned integers."""
    return array.view(f"uint{array.dtype.itemsize * 8}")


def checksum(array: Array) -> int:
    """Equal for arrays between which there is no :func:`difference`; a single wrong element always shows."""
    if is_float(array.dtype):
        nan = np.isnan(array)
        if nan.any():
            array = array.copy()
            array[nan] = np.nan
    return zlib.crc32(array.tobytes(), array.nbytes)


# ---- inputs ----------------------------------------------------------------------------------------


def pick(rng: np.random.Generator, options: Sequence[Any]) -> Any:
    """One of them: what rng.choice() draws, without an array of them."""
    return options[int(rng.integers(0, len(options)))]


def make_input(seed: tuple[int, ...], rank: int, count: int, dtype: np.dtype[Any], kind: str) -> Array:
    """The elements that *rank* has in the call that *seed* stands for; every rank can make them all.

    kind: "bits", any bit pattern; "plain", numbers of like magnitude, whose sums round; "special",
    zeros of both signs, infinities, NaN, denormals, the largest numbers and halfway cases.
    """
    rng = np.random.default_rng([*seed, rank])
    if kind == "bits" or not is_float(dtype):
        data = np.frombuffer(rng.bytes(count * dtype.itemsize), dtype).copy()
        if kind == "plain":  # small enough for averages that mean something
            data //= dtype.type(17)
        return data
    if kind == "plain":
        with np.errstate(over="ignore"):
            return (rng.standard_normal(count) * 4).astype(dtype)
    values = _special_values(dtype)
    return values[rng.integers(0, values.size, count)]


@functools.cache
def _special_values(dtype: np.dtype[Any]) -> Array:
    info = ml_dtypes.finfo(dtype)
    tiny, smallest, largest = float(info.tiny), float(info.smallest_subnormal), float(info.max)
    half_ulp = float(info.eps) / 2
    positive = [0.0, smallest, 3 * smallest, tiny - smallest, tiny, half_ulp, 3 * half_ulp]
    positive += [1.0, 1.0 + float(info.eps), 1.0 + 2 * float(info.eps), 1.5, 3.0, largest / 2, largest]
    positive += [largest * half_ulp, largest * half_ulp / 2]  # half of the largest number's last place
    values = positive + [-value for value in positive]
    # few of these: what meets them is decided by them
    return np.array(values * 4 + [np.inf, -np.inf, np.nan], np.float64).astype(dtype)
