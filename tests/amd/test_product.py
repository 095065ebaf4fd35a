"""The AMD kernels are executed: a selection of the product's own tests, on the GPU in software.

`make test-amd` runs all of them. Here it is gfx942 and two ranks, so that `make test` stays short.
"""

from __future__ import annotations

import os

import pytest
from assembly import LIBRARY
from run import ROOT, run_tests

ARCH = "gfx942"
SELECTION = ("tests/test_graphs.py",)  # every operation, directly and as a graph
NAMES = "every_operation and 2"
SECONDS = 400  # against a hang; 32 s on two free cores


def test_selection() -> None:
    needed = (LIBRARY, ROOT / "hipcomm" / "code_objects" / ARCH / "all_reduce_one_shot_sum.co")
    missing = [path.name for path in needed if not path.exists()]
    if os.environ.get("CI"):  # there they are always built
        assert not missing, f"not built: {', '.join(missing)}"
    elif missing:
        pytest.skip(f"not built: {', '.join(missing)} (`make amd-software amd-kernels`)")
    assert run_tests(ARCH, 0, ["-x", "-k", NAMES, *SELECTION], devices=2, timeout=SECONDS) == 0
