"""hipcomm.h has its enums in plain sight; the tables in hipcomm/abi are what C, kernels and Python expand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hipcomm.core import ffi, lib

HIPCOMM = Path(__file__).resolve().parent.parent / "hipcomm"
HEADER = "".join(path.read_text() for path in sorted((HIPCOMM / "include").glob("*.h")))
ENUMS = {
    enum: {name: int(number) for name, number in re.findall(r"(\w+) = (\d+)", body)}
    for body, enum in re.findall(r"typedef enum \{(.*?)\} (\w+);", HEADER, re.DOTALL)
}
# by enum: how its names begin, the name of how many there are, and the table's file
TABLES = {
    "hipcommDataType_t": ("hipcomm", "hipcommNumDataTypes", "dtypes.def"),
    "hipcommRedOp_t": ("hipcomm", "hipcommNumRedOps", "reductions.def"),
    "hipcommOperation_t": ("hipcommOp", "hipcommNumOperations", "operations.def"),
    "hipcommAlgorithm_t": ("hipcommAlgorithm", "hipcommNumAlgorithms", "algorithms.def"),
    "hipcommFormat_t": ("hipcommFormat", "hipcommNumFormats", "formats.def"),
    "hipcommScaleLayout_t": ("hipcommScales", "hipcommNumScaleLayouts", "scale_layouts.def"),
}


def rows_of(file):
    """{name: number} of all rows X(Name, name, number, ...), or X(NAME, number, ...), of a table."""
    text = re.sub(r"/\*.*?\*/", "", (HIPCOMM / "abi" / file).read_text(), flags=re.DOTALL)
    rows = re.findall(r"\bX\((\w+), (?:\w+, )?(\d+), ", text)
    assert rows, file
    return {name: int(number) for name, number in rows}


def test_every_enum_of_the_header_is_compared():
    assert set(ENUMS) == {*TABLES, "hipcommResult_t"}


@pytest.mark.parametrize("enum", TABLES)
def test_the_header_has_the_tables_numbers(enum):
    prefix, last, file = TABLES[enum]
    rows = rows_of(file)
    assert ENUMS[enum] == {prefix + name: number for name, number in rows.items()} | {last: len(rows)}


@pytest.mark.parametrize("file", [*(file for _, _, file in TABLES.values()), "faults.def"])
def test_numbers_are_dense(file):
    """They index the core's tables."""
    rows = rows_of(file)
    assert sorted(rows.values()) == list(range(len(rows)))


def test_results_have_their_names():
    results = ENUMS["hipcommResult_t"]
    names = {ffi.string(lib.hipcommGetResultName(number)).decode(): number for number in results.values()}
    assert names == results


@pytest.mark.parametrize("fault", sorted(rows_of("faults.def")))
def test_every_fault_is_reported(fault):
    """Kernels write it, and the core has words for it."""
    name = rf"\bHIPCOMM_FAULT_{fault}\b"
    kernels = [path.read_text() for path in (HIPCOMM.parent / "kernels").rglob("*.[h]*")]
    assert any(re.search(name, text) for text in kernels)
    assert fault == "NONE" or re.search(name, (HIPCOMM / "native" / "failure.c").read_text())
