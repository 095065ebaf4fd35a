"""What people write on the command line: sizes, shapes, nccl-tests' names of operations and data types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from hipcomm_bench.sizes import parse_size

# nccl-tests' programs (all_gather_perf, …) and datatypes that have other names here.
_OPERATIONS = {"alltoall": "all_to_all", "alltoallv": "all_to_all_v", "sendrecv": "send_recv"}
_DTYPES = {"half": "float16", "float": "float32", "double": "float64", "bf16": "bfloat16"}


class Size(click.ParamType[int]):
    """A number of bytes, such as 64K."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return `value` in bytes, or fail as click does."""
        try:
            return value if isinstance(value, int) else parse_size(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Shape(click.ParamType[tuple[int, ...]]):
    """The extents of an array, such as 64x128256."""

    name = "shape"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the extents, or fail as click does."""
        if isinstance(value, tuple):
            return value
        try:
            extents = tuple(int(text) for text in str(value).split("x"))
        except ValueError:
            extents = ()
        if not extents or min(extents) < 1:
            self.fail(
                f"{value!r} is not a shape; write extents with an x between, such as 64x128256", param, ctx
            )
        return extents


class Spelled(click.Choice[str]):
    """One of some names, in nccl-tests' spelling as well."""

    def __init__(self, names: Sequence[str], others: dict[str, str], suffix: str = "") -> None:
        super().__init__(names)
        self._others, self._suffix = others, suffix

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return our name, or fail as click does."""
        name = str(value).removesuffix(self._suffix) if self._suffix else str(value)
        return super().convert(self._others.get(name, name), param, ctx)


def operation(names: Sequence[str]) -> Spelled:
    """Return the type of an operation's name."""
    return Spelled(names, _OPERATIONS, "_perf")


def dtype(names: Sequence[str]) -> Spelled:
    """Return the type of a data type's name."""
    return Spelled(names, _DTYPES)
