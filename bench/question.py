"""From the command line to what is measured: subjects, contestants, modes, and what does not go together."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import click

from hipcomm_bench.memory import dtype_of
from hipcomm_bench.norms.rows import DTYPES as NORM_DTYPES
from hipcomm_bench.norms.rows import FUSED
from hipcomm_bench.ops import OPS
from hipcomm_bench.sizes import size_range
from hipcomm_bench.subjects import Subject
from hipcomm_bench.workloads import libraries, resolve

MODES = {"both": [False, True], "in-place": [True], "out-of-place": [False]}

# Rows that a decoder of large models has: one for each sequence that is being continued, and whole prompts.
DECODE = (1, 2, 4, 8, 16, 32, 64)
PREFILL = (128, 512, 2048, 8192)

# Collectives that put parts together, or take them apart, along any dimension.
WITH_DIM = ("all_gather", "reduce_scatter")

# Options that go with some operations only, by parameter's name.
_ROWS_ONLY = {"hidden": "--hidden", "tokens": "--tokens", "norm": "--norm", "quantised": "--quantised"}
_MESSAGES_ONLY = {
    "minbytes": "-b",
    "maxbytes": "-e",
    "stepfactor": "-f",
    "stepbytes": "-i",
    "shape": "--shape",
    "dim": "--dim",
    "root": "-r",
    "redop": "-o",
    "mode": "--mode",
}


def refuse_what_does_not_apply(op: str, given: Iterable[str]) -> None:
    """Raise click.UsageError where a parameter that was given means nothing for this operation."""
    wrong = _MESSAGES_ONLY if op == FUSED else _ROWS_ONLY
    for name in given:
        if name in wrong:
            raise click.UsageError(f"{wrong[name]} does not go with {op}.")


def contestants(op: str, names: str | None) -> list[str]:
    """Return hipcomm and the names in a comma-separated list, each once; None: the operation's default."""
    if names is None:
        names = "all" if op == FUSED else ""
    try:
        return resolve(op, ["hipcomm", *(name.strip() for name in names.split(",") if name.strip())])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--compare") from error


def modes(op: str, mode: str) -> list[bool]:
    """Return which uses of the buffers are measured: True is in place."""
    return MODES["out-of-place"] if op == FUSED else MODES[mode]


def messages(op: str, begin: int, end: int, factor: int, step: int | None) -> list[Subject]:
    """Return messages from `begin` to `end` bytes; of a barrier one without any."""
    if not OPS[op].moves:
        return [Subject(0)]
    try:
        return [Subject(size) for size in size_range(begin, end, factor, step)]
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def arrays(
    op: str, shapes: tuple[tuple[int, ...], ...], dim: int, dtype: str, ranks: tuple[int, ...]
) -> list[Subject]:
    """Return messages that are arrays of these shapes, whose parts are put together along a dimension."""
    if op not in WITH_DIM:
        raise click.UsageError(f"--shape goes with {' and '.join(WITH_DIM)}, not with {op}.")
    for shape, world_size in ((shape, size) for shape in shapes for size in ranks):
        if not 0 <= dim < len(shape):
            raise click.UsageError(f"{'x'.join(map(str, shape))} has no dimension {dim}.")
        if shape[dim] % world_size:
            raise click.UsageError(
                f"dimension {dim} of {'x'.join(map(str, shape))} does not split over {world_size} ranks."
            )
    return [Subject(prod(shape) * dtype_of(dtype).itemsize, shape) for shape in shapes]


def rows(hidden: tuple[int, ...], tokens: tuple[int, ...], dtype: str) -> list[Subject]:
    """Return every number of tokens for every hidden size."""
    if dtype not in NORM_DTYPES:
        raise click.UsageError(f"norms are of {', '.join(NORM_DTYPES)}, not of {dtype}.")
    itemsize = dtype_of(dtype).itemsize
    return [
        Subject(number * length * itemsize, (number, length))
        for length in hidden
        for number in tokens or (*DECODE, *PREFILL)
    ]


def all_contestants(op: str) -> str:
    """Return the names for the help."""
    return ", ".join(libraries(op))
