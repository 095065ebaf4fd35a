"""What the functions of :mod:`hipcomm.jax` have in common: the communicator in a program, and checks."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from hipcomm.buffers.dtypes import CODES, names
from hipcomm.errors import InvalidArgument
from hipcomm.jax.calls import number_of


class Group(NamedTuple):
    """What a program knows of a communicator.

    Attributes:
        number: in this process.
        world: its size.
    """

    number: int
    world: int


def group_of(comm: Any) -> Group:
    """The group of a communicator. Raises InvalidArgument where it is closed."""
    return Group(number_of(comm), comm.world_size)


def refusal(comm: Any, operation: str, problem: str) -> InvalidArgument:
    """The error for a wrong argument."""
    return InvalidArgument(f"rank {comm.rank}: jax.{operation}: {problem}")


def array_of(x: Any, comm: Any, operation: str, name: str = "x") -> Any:
    """*x* as a JAX array. Raises InvalidArgument where its dtype is not supported."""
    array = jax.numpy.asarray(x)
    if np.dtype(array.dtype) not in CODES:
        problem = f"{name}: dtype {array.dtype} is not supported; these are: {names()}"
        raise refusal(comm, operation, problem)
    return array


def check_differentiable(op: str) -> None:
    """Raise NotImplementedError for a reduction without a gradient."""
    if op not in ("sum", "avg"):
        raise NotImplementedError(f"hipcomm.jax: a reduction by {op} has no gradient; sum and avg have")


def cotangent_of(x: Any, reverse: Any) -> Any:
    """The cotangent of a call's argument; integers have none."""
    if x.dtype == jax.dtypes.float0:
        return (x,)
    return (reverse(x),)
