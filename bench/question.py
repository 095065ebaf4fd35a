"""From the command line to what is measured: subjects, contestants, modes, and what does not go together."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click

from hipcomm_bench.memory import dtype_of
from hipcomm_bench.norms.rows import DTYPES as NORM_DTYPES
from hipcomm_bench.norms.rows import FUSED
from hipcomm_bench.sizes import size_range
from hipcomm_bench.subjects import Subject
from hipcomm_bench.workloads import libraries, resolve

MODES = {"both": [False, True], "in-place": [True], "out-of-place": [False]}

# Rows that a decoder of large models has: one for each sequence that is being continued, and whole prompts.
DECODE = (1, 2, 4, 8, 16, 32, 64)
PREFILL = (128, 512, 2048, 8192)

# Options that go with some operations only, by parameter's name.
_ROWS_ONLY = {"hidden": "--hidden", "tokens": "--tokens", "norm": "--norm"}
_MESSAGES_ONLY = {
    "minbytes": "-b",
    "maxbytes": "-e",
    "stepfactor": "-f",
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


def messages(begin: int, end: int, factor: int) -> list[Subject]:
    """Return messages from `begin` to `end` bytes."""
    return _or_usage_error(lambda: [Subject(size) for size in size_range(begin, end, factor)])


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


def _or_usage_error(make: Callable[[], list[Subject]]) -> list[Subject]:
    try:
        return make()
    except ValueError as error:
        raise click.UsageError(str(error)) from error
