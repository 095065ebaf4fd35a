"""Calls of the fused norms in which every pair of choices comes together.

Of any two columns of CHOICES: every value of the one with every value of the other, where these go together.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
from norm_cases import DTYPES, FUSED, KINDS, PARAMETERS, SCATTERED, NormCase
from quantised_cases import FNUZ, FORMATS, QuantisedCase

CHOICES: dict[str, tuple[Any, ...]] = {
    "algorithm": ("auto", "one_shot", "two_shot", "staged", "pipelined"),
    "world": (1, 2, 3, 4, 5, 8),
    "operation": (*FUSED, *SCATTERED),
    "layout": ("replicated", "sharded"),
    "format": (None, *((format, layout) for format, layouts in FORMATS.items() for layout in layouts)),
    "dtype": DTYPES,
    "outs": (
        ("own", "own"), ("x", "own"), ("own", "none"), ("none", "own"), ("own", "x"), ("own", "residual"),
        ("none", "none"),
    ),
    "residual": (True, False),
    "parameters": PARAMETERS,
    "kind": KINDS,
    "memory": ("dense", "gaps", "misaligned"),
    "hidden": (1, 100, 513, 1024, 2880),
    "tokens": (1, 9, 37),
}  # fmt: skip

Row = dict[str, Any]


def is_possible(row: Row) -> bool:
    """Whether some call has these choices, which may be a few of them only."""
    operation, outs = row.get("operation", ""), row.get("outs", ("own", "own"))
    scatters = operation.startswith("reduce_scatter")
    has_own_rows = scatters or row.get("layout") == "sharded"  # what x has other rows than
    return not (
        (scatters and row.get("layout") == "sharded")
        or (outs[1] == "residual" and row.get("residual") is False)
        or (outs == ("none", "none") and row.get("format", "some") is None)
        or (has_own_rows and outs[1] == "x")
        or (scatters and outs[0] == "x")
    )


def pairs_of(row: Row) -> set[Any]:
    """Pairs of choices that come together in a row."""
    return set(itertools.combinations(sorted(row.items(), key=lambda choice: choice[0]), 2))


def all_pairs() -> set[Any]:
    """Those of all rows that are possible."""
    found = set()
    for one, other in itertools.combinations(sorted(CHOICES), 2):
        for a, b in itertools.product(CHOICES[one], CHOICES[other]):
            if is_possible({one: a, other: b}):
                found.add(((one, a), (other, b)))
    return found


@functools.cache
def rows() -> tuple[Row, ...]:
    """As few as come out if each takes what the most missing pairs are of. The same in every process."""
    missing, made = all_pairs(), []
    while missing:
        row: Row = dict(min(missing, key=repr))
        for name in sorted(CHOICES, key=lambda name: -len(CHOICES[name])):
            if name not in row:
                allowed = [value for value in CHOICES[name] if is_possible({**row, name: value})]
                row[name] = max(
                    allowed, key=lambda value, name=name: len(pairs_of({**row, name: value}) & missing)
                )
        made.append(row)
        missing -= pairs_of(row)
    return tuple(made)


def case_of(number: int, row: Row) -> NormCase:
    """The call that a row is; what is no choice of it is drawn."""
    rng = np.random.default_rng([77, number])
    is_layer, memory, asked = row["operation"].endswith("layer_norm"), row["memory"], row["format"]
    quantised = None
    if asked is not None:
        quantised = QuantisedCase(
            asked[0],
            fp8=tuple(FNUZ)[number % 2],
            group=(32, 64, 128, 256, 512)[number % 5] if "group" in asked[0] else None,
            layout=asked[1],
            scale=(1.0, 0.013)[number % 2],
            gap=3 if memory == "gaps" else 0,
            offset=5 if memory == "misaligned" else 0,
        )
    return NormCase(
        row["operation"],
        row["tokens"],
        row["hidden"],
        row["dtype"],
        row["residual"],
        row["parameters"],
        row["parameters"] if is_layer else "none",
        weight_offset=(0.0, 1.0)[number % 2],
        out=row["outs"][0],
        residual_out=row["outs"][1],
        gaps=tuple(int(gap) for gap in rng.integers(1, 40, 4)) if memory == "gaps" else (0,) * 4,
        offsets=tuple(int(offset) for offset in rng.integers(1, 16, 6))
        if memory == "misaligned"
        else (0,) * 6,
        kind=row["kind"],
        seed=(77, number),
        quantised=quantised,
        layout=row["layout"],
    )


def cases_for(algorithm: str, world: int) -> list[NormCase]:
    """Those of the calls that are for this world."""
    return [
        case_of(number, row)
        for number, row in enumerate(rows())
        if (row["algorithm"], row["world"]) == (algorithm, world)
    ]
