"""hipcomm.h has its enums in plain sight; the tables in hipcomm/abi are what C, kernels and Python expand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HIPCOMM = Path(__file__).resolve().parent.parent / "hipcomm"
HEADER = (HIPCOMM / "include" / "hipcomm.h").read_text()


def table(file, *lists):
    """{Name: number} of the lists X(Name, name, number, ...) in a .def file."""
    text = (HIPCOMM / "abi" / file).read_text()
    bodies = (re.search(rf"#define {name}\(X, \.\.\.\)(.*?[^\\])\n", text, re.DOTALL)[1] for name in lists)
    rows = [row for body in bodies for row in re.findall(r"X\((\w+), \w+, (\d+), ", body)]
    assert rows, file
    return {name: int(number) for name, number in rows}


@pytest.mark.parametrize(
    ("enum", "prefix", "last", "rows"),
    [
        (
            "hipcommDataType_t",
            "hipcomm",
            "NumDataTypes",
            table("dtypes.def", "HIPCOMM_DTYPES", "HIPCOMM_FLOAT8_DTYPES"),
        ),
        (
            "hipcommRedOp_t",
            "hipcomm",
            "NumRedOps",
            table("reductions.def", "HIPCOMM_KERNEL_REDUCTIONS", "HIPCOMM_REDUCTIONS"),
        ),
        (
            "hipcommAlgorithm_t",
            "hipcommAlgorithm",
            "hipcommNumAlgorithms",
            table("algorithms.def", "HIPCOMM_ALGORITHMS"),
        ),
    ],
)
def test_the_header_has_the_tables_numbers(enum, prefix, last, rows):
    body = next(
        body for body, name in re.findall(r"typedef enum \{(.*?)\} (\w+);", HEADER, re.DOTALL) if name == enum
    )
    declared = {name: int(number) for name, number in re.findall(r"(\w+) = (\d+)", body)}
    expected = {prefix + name: number for name, number in rows.items()}
    expected[last if last.startswith("hipcomm") else prefix + last] = len(rows)
    assert declared == expected
    assert sorted(rows.values()) == list(range(len(rows)))
