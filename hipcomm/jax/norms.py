"""The norms over rows of :mod:`hipcomm.jax`, fused with the all-reduce or alone, and their gradients.

Forward they are the C library's calls, with its bits (docs/numbers.md). Backward XLA computes in float32,
from the rows that the norm was taken of.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hipcomm.jax.calls import call
from hipcomm.jax.collectives import _all_reduce
from hipcomm.jax.groups import Group, array_of, group_of, refusal

_RESIDUAL, _WEIGHT, _BIAS = 1, 2, 4  # of the handler's `has`


class _Norm(NamedTuple):
    """Which norm it is.

    Attributes:
        operation: the operation's name.
        group: the communicator's.
        eps: added to the mean of the squares.
        weight_offset: added to the weight.
    """

    operation: str
    group: Group
    eps: float
    weight_offset: float


def add_rms_norm(
    x: Any, residual: Any, weight: Any, eps: float, comm: Any, *, weight_offset: float = 0.0
) -> tuple[Any, Any]:
    """Add the residual and apply RMSNorm, on this rank alone. See :meth:`Communicator.add_rms_norm`.

    Args:
        x: rows, in the last dimension; float16, bfloat16 or float32.
        residual: an array like *x*; None: nothing is added.
        weight: one element for each of a row, of x's dtype or float32; None: ones.
        eps: finite and at least 0.
        comm: the communicator.
        weight_offset: added to the weight.

    Returns:
        The norm, and the rows that it was taken of: two arrays like *x*.

    Raises:
        InvalidArgument: shapes or dtypes do not fit, or the communicator is closed.
    """
    return _norm("add_rms_norm", comm, (x, residual, weight, None), (eps, weight_offset))


def add_layer_norm(
    x: Any, residual: Any, weight: Any, bias: Any, eps: float, comm: Any, *, weight_offset: float = 0.0
) -> tuple[Any, Any]:
    """Add the residual and apply LayerNorm, on this rank alone.

    As :func:`add_rms_norm`, with *bias*, which is like *weight*; None: nothing is added.
    """
    return _norm("add_layer_norm", comm, (x, residual, weight, bias), (eps, weight_offset))


def all_reduce_rms_norm(
    x: Any, residual: Any, weight: Any, eps: float, comm: Any, *, weight_offset: float = 0.0
) -> tuple[Any, Any]:
    """Sum x over all ranks, add the residual and apply RMSNorm, in one launch.

    As :func:`add_rms_norm` of the sum; residual and weight are the same on all ranks.
    """
    return _norm("all_reduce_rms_norm", comm, (x, residual, weight, None), (eps, weight_offset))


def all_reduce_layer_norm(
    x: Any, residual: Any, weight: Any, bias: Any, eps: float, comm: Any, *, weight_offset: float = 0.0
) -> tuple[Any, Any]:
    """Sum x over all ranks, add the residual and apply LayerNorm, in one launch.

    As :func:`add_layer_norm` of the sum; residual, weight and bias are the same on all ranks.
    """
    return _norm("all_reduce_layer_norm", comm, (x, residual, weight, bias), (eps, weight_offset))


def _norm(
    operation: str, comm: Any, arrays: tuple[Any, ...], numbers: tuple[float, float]
) -> tuple[Any, Any]:
    """Check, and put the call into the program. *arrays*: x, residual, weight and bias."""
    others = zip(("residual", "weight", "bias"), arrays[1:], strict=True)
    x: Any = array_of(arrays[0], comm, operation)
    residual, weight, bias = (
        None if array is None else array_of(array, comm, operation, name) for name, array in others
    )
    if x.ndim < 1 or x.dtype not in (jnp.float16, jnp.bfloat16, jnp.float32):
        raise refusal(
            comm, operation, f"x of shape {x.shape} and dtype {x.dtype} has no rows to be normalised"
        )
    if residual is not None and (residual.shape, residual.dtype) != (x.shape, x.dtype):
        problem = f"residual has shape {residual.shape} and dtype {residual.dtype}, x {x.shape} and {x.dtype}"
        raise refusal(comm, operation, problem)
    for name, array in (("weight", weight), ("bias", bias)):
        if array is not None and (array.shape != x.shape[-1:] or array.dtype not in (x.dtype, jnp.float32)):
            problem = (
                f"{name} has shape {array.shape} and dtype {array.dtype}, a row {x.shape[-1:]} and {x.dtype}"
            )
            raise refusal(comm, operation, problem)
    eps, offset = (float(number) for number in numbers)
    if not (np.isfinite(eps) and eps >= 0 and np.isfinite(offset)):
        raise refusal(comm, operation, f"eps {eps} or weight_offset {offset} is not possible")
    made: tuple[Any, Any] = _normed(x, residual, weight, bias, _Norm(operation, group_of(comm), eps, offset))
    return made


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _normed(x: Any, residual: Any, weight: Any, bias: Any, norm: _Norm) -> tuple[Any, Any]:
    others = ((residual, _RESIDUAL), (weight, _WEIGHT), (bias, _BIAS))
    out, rows = call(
        [x, *(array for array, _ in others if array is not None)],
        [(x.shape, x.dtype)] * 2,
        "first",
        operation=norm.operation,
        comm=norm.group.number,
        has=sum(bit for array, bit in others if array is not None),
        like_x=1 if residual is None else 2,
        eps=norm.eps,
        weight_offset=norm.weight_offset,
    )
    return out, rows


def _forward(x: Any, residual: Any, weight: Any, bias: Any, norm: _Norm) -> Any:
    out, rows = _normed(x, residual, weight, bias, norm)
    return (out, rows), (rows, residual is not None, weight, bias)


def _in_float32(rows: Any, weight: Any, bias: Any, norm: _Norm) -> Any:
    """The norm of rows, as XLA differentiates it."""
    values = rows.astype(jnp.float32)
    if "layer" in norm.operation:
        values -= values.mean(-1, keepdims=True)
    values *= jax.lax.rsqrt((values * values).mean(-1, keepdims=True) + norm.eps)
    if weight is not None or norm.weight_offset:
        scale = 1.0 if weight is None else weight.astype(jnp.float32)
        values *= scale + norm.weight_offset
    return values if bias is None else values + bias.astype(jnp.float32)


def _reverse(norm: _Norm, kept: Any, cotangents: Any) -> Any:
    rows, has_residual, weight, bias = kept
    given = [array for array in (weight, bias) if array is not None]

    def of_given(rows: Any, *given: Any) -> Any:
        left = iter(given)
        scale, shift = (None if array is None else next(left) for array in (weight, bias))
        return _in_float32(rows, scale, shift, norm)

    _, reverse = jax.vjp(of_given, rows.astype(jnp.float32), *given)
    of_rows, *of_parameters = reverse(cotangents[0].astype(jnp.float32))
    of_rows = (of_rows + cotangents[1].astype(jnp.float32)).astype(rows.dtype)
    of_x = _all_reduce(of_rows, norm.group, "sum") if norm.operation.startswith("all_reduce") else of_rows
    left = iter(of_parameters)
    of_named = [None if array is None else next(left) for array in (weight, bias)]
    return of_x, of_rows if has_residual else None, *of_named


_normed.defvjp(_forward, _reverse)
