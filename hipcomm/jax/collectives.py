"""The collectives of :mod:`hipcomm.jax`, and their gradients."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax

from hipcomm.jax.calls import call
from hipcomm.jax.groups import Group, array_of, check_differentiable, cotangent_of, group_of, refusal
from hipcomm.plan import REDUCTIONS


def _op_of(op: Any, comm: Any, operation: str) -> str:
    if not isinstance(op, str) or op not in REDUCTIONS:
        raise refusal(comm, operation, f"op {op!r} is none of {', '.join(REDUCTIONS)}")
    return op


def _axis_of(dim: Any, ndim: int, comm: Any, operation: str) -> int:
    if isinstance(dim, bool) or not isinstance(dim, int) or not -ndim <= dim < ndim:
        raise refusal(comm, operation, f"dim {dim!r}: x has {ndim} dimensions, no such one")
    return dim % ndim


# ---- all_reduce ------------------------------------------------------------------------------------------


def all_reduce(x: Any, comm: Any, op: str = "sum") -> Any:
    """Combine the elements of all ranks; every rank has the result. See :meth:`Communicator.all_reduce`.

    Args:
        x: this rank's array.
        comm: the communicator.
        op: "sum", "avg", "max", "min" or "prod".

    Returns:
        An array like *x*.

    Raises:
        InvalidArgument: dtype or op is not supported, or the communicator is closed; when it is traced.
    """
    array = array_of(x, comm, "all_reduce")
    return _all_reduce(array, group_of(comm), _op_of(op, comm, "all_reduce"))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _all_reduce(x: Any, group: Group, op: str) -> Any:
    return call(
        [x],
        [(x.shape, x.dtype)],
        "first",
        operation="all_reduce",
        comm=group.number,
        op=REDUCTIONS[op],
    )[0]


def _all_reduce_forward(x: Any, group: Group, op: str) -> Any:
    check_differentiable(op)
    return _all_reduce(x, group, op), None


def _all_reduce_reverse(group: Group, op: str, _: Any, cotangent: Any) -> Any:
    return cotangent_of(cotangent, lambda y: _all_reduce(y, group, op))


_all_reduce.defvjp(_all_reduce_forward, _all_reduce_reverse)


# ---- all_gather and reduce_scatter, which are each other's reverse ---------------------------------------


def all_gather(x: Any, comm: Any, dim: int = 0) -> Any:
    """Concatenate the arrays of all ranks, in rank order, along a dimension.

    Args:
        x: this rank's array, of the same shape on all ranks.
        comm: the communicator.
        dim: the dimension; negative ones count from the end.

    Returns:
        An array that is world_size times as long along *dim*.

    Raises:
        InvalidArgument: the dtype is not supported, there is no such dimension, or the communicator is
            closed.
    """
    array = array_of(x, comm, "all_gather")
    return _all_gather(array, group_of(comm), _axis_of(dim, array.ndim, comm, "all_gather"))


def reduce_scatter(x: Any, comm: Any, op: str = "sum", dim: int = 0) -> Any:
    """Combine the elements of all ranks; each rank has its part of the result, cut along a dimension.

    Args:
        x: this rank's array.
        comm: the communicator.
        op: as for :func:`all_reduce`.
        dim: the dimension, of a multiple of world_size; negative ones count from the end.

    Returns:
        Part *rank* of world_size equal parts along *dim*.

    Raises:
        InvalidArgument: dtype or op is not supported, the dimension cannot be cut, or the communicator is
            closed.
    """
    array = array_of(x, comm, "reduce_scatter")
    axis = _axis_of(dim, array.ndim, comm, "reduce_scatter")
    _check_parts(array.shape[axis], axis, comm, "reduce_scatter")
    return _reduce_scatter(array, group_of(comm), _op_of(op, comm, "reduce_scatter"), axis)


def _check_parts(extent: int, axis: int, comm: Any, operation: str) -> None:
    if extent % comm.world_size:
        problem = f"x has {extent} elements along dimension {axis}, not a multiple of {comm.world_size} ranks"
        raise refusal(comm, operation, problem)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _all_gather(x: Any, group: Group, axis: int) -> Any:
    whole = (*x.shape[:axis], x.shape[axis] * group.world, *x.shape[axis + 1 :])
    rows = math.prod(x.shape[:axis])
    return call([x], [(whole, x.dtype)], "first", operation="all_gather", comm=group.number, rows=rows)[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _reduce_scatter(x: Any, group: Group, op: str, axis: int) -> Any:
    part = (*x.shape[:axis], x.shape[axis] // group.world, *x.shape[axis + 1 :])
    return call(
        [x],
        [(part, x.dtype)],
        "first",
        operation="reduce_scatter",
        comm=group.number,
        op=REDUCTIONS[op],
        rows=math.prod(x.shape[:axis]),
    )[0]


def _all_gather_forward(x: Any, group: Group, axis: int) -> Any:
    return _all_gather(x, group, axis), None


def _all_gather_reverse(group: Group, axis: int, _: Any, cotangent: Any) -> Any:
    return cotangent_of(cotangent, lambda y: _reduce_scatter(y, group, "sum", axis))


def _reduce_scatter_forward(x: Any, group: Group, op: str, axis: int) -> Any:
    check_differentiable(op)
    return _reduce_scatter(x, group, op, axis), None


def _reduce_scatter_reverse(group: Group, op: str, axis: int, _: Any, cotangent: Any) -> Any:
    scale = group.world if op == "avg" else 1
    return cotangent_of(cotangent, lambda y: _all_gather(y / scale if scale > 1 else y, group, axis))


_all_gather.defvjp(_all_gather_forward, _all_gather_reverse)
_reduce_scatter.defvjp(_reduce_scatter_forward, _reduce_scatter_reverse)


# ---- all_to_all ------------------------------------------------------------------------------------------


def all_to_all(x: Any, comm: Any) -> Any:
    """Send a part of x to every rank, and receive a part from every rank; parts are cut along dimension 0.

    Args:
        x: world_size parts, in rank order.
        comm: the communicator.

    Returns:
        An array like *x*: part r is part *rank* of rank r's.

    Raises:
        InvalidArgument: the dtype is not supported, dimension 0 cannot be cut, or the communicator is closed.
    """
    array = array_of(x, comm, "all_to_all")
    _axis_of(0, array.ndim, comm, "all_to_all")
    _check_parts(array.shape[0], 0, comm, "all_to_all")
    return _all_to_all(array, group_of(comm))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _all_to_all(x: Any, group: Group) -> Any:
    return call(
        [x], [(x.shape, x.dtype)], "last", operation="all_to_all", comm=group.number, world=group.world
    )[0]


def _all_to_all_forward(x: Any, group: Group) -> Any:
    return _all_to_all(x, group), None


def _all_to_all_reverse(group: Group, _: Any, cotangent: Any) -> Any:
    return cotangent_of(cotangent, lambda y: _all_to_all(y, group))


_all_to_all.defvjp(_all_to_all_forward, _all_to_all_reverse)
