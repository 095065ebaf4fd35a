"""What calls cost on gfx950: no count may grow by more than 5 % without the table in docs/performance.md."""

from __future__ import annotations

import counts
import pytest
from assembly import LIBRARY
from run import ROOT

OBJECTS = ROOT / "hipcomm" / "code_objects" / counts.ARCH
pytestmark = pytest.mark.skipif(
    not (LIBRARY.exists() and (OBJECTS / "all_reduce_one_shot_sum.co").exists()),
    reason="run `make amd-software amd-kernels`",
)
GROWTH = 1.05
TESTED = [call for call in counts.CALLS if call[2] <= 4096]  # the others take long


@pytest.mark.parametrize("call", TESTED, ids=str)
def test_counts_have_not_grown(call: tuple[str, str, int]) -> None:
    key = f"| {call[0]} | {call[1]} | {counts.nbytes_of(call[0], call[2])} |"
    (line,) = [line for line in counts.table() if line.startswith(key)]
    known = counts.Row(*call[:2], *(int(cell) for cell in line.split("|")[3:12]))
    for name, was, now in zip(counts.Row._fields[2:], known[2:], counts.count(*call)[2:], strict=True):
        assert now <= was * GROWTH, f"{name}: {was} in docs/performance.md, now {now} (`counts.py --write`)"
