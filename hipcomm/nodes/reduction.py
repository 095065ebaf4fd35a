"""The arithmetic between nodes, to the bit of docs/numbers.md: partial results stay unrounded until the last.

Partial results of nodes are of the accumulator's type: float32 for all floats up to 32 bits, else the
elements' own. A node's kernels compute them: they accumulate float32 elements in float32, so widened elements
give what they would hold before rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def accumulator(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which elements of *dtype* are combined."""
    if dtype.kind in "iu" or dtype == np.float64:
        return dtype
    return np.dtype(np.float32)


def inside(op: str) -> str:
    """The reduction within a node: an average is divided at the end."""
    return "sum" if op == "avg" else op


def finish(partials: Sequence[Array], op: str, world_size: int, out: Array) -> None:
    """Combine the nodes' partial results in their order, and round into *out*. *partials* are used up."""
    with np.errstate(all="ignore"):
        total = partials[0]
        for operand in partials[1:]:
            _combine(total, operand, op)
        if op == "avg":
            total = _divide(total, world_size)
        out[...] = total.astype(out.dtype, copy=False)


def _combine(total: Array, operand: Array, op: str) -> None:
    """Combine in place."""
    if op in ("sum", "avg"):
        np.add(total, operand, out=total)
    elif op == "prod":
        np.multiply(total, operand, out=total)
    elif total.dtype.kind in "iu":
        (np.maximum if op == "max" else np.minimum)(total, operand, out=total)
    else:
        _combine_extremes(total, operand, op)


def _combine_extremes(total: Array, operand: Array, op: str) -> None:
    """IEEE 754-2019's maximum or minimum: a NaN wins, -0 < +0; NumPy leaves open which zero it returns."""
    zeros = (total == 0) & (operand == 0)
    if zeros.any():
        a, b = total[zeros], operand[zeros]
        # sums of zeros are -0 only where both are
        signed = a + b if op == "max" else -((-a) + (-b))
        (np.maximum if op == "max" else np.minimum)(total, operand, out=total)
        total[zeros] = signed
    else:
        (np.maximum if op == "max" else np.minimum)(total, operand, out=total)


def _divide(total: Array, world_size: int) -> Array:
    """An average: integers truncate toward zero."""
    if total.dtype.kind not in "iu":
        average: Array = total / total.dtype.type(world_size)
        return average
    wide = np.int64 if total.dtype.kind == "i" else np.uint64  # the number of ranks may not fit into int8
    values = total.astype(wide, copy=False)
    quotient, remainder = np.divmod(values, wide(world_size))
    truncated: Array = quotient + ((remainder != 0) & (values < 0)).astype(wide)
    return truncated.astype(total.dtype, copy=False)
