"""The AMD kernels are executed: a selection of the product's own tests, on the GPU in software.

`make test-amd` runs all of them.
"""

from __future__ import annotations

import pytest
from assembly import LIBRARY
from run import ARCHITECTURES, ROOT, run_tests

SELECTION = ("tests/test_graphs.py",)  # every operation, directly and as a graph
NAMES = "every_operation and 2"


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_selection(arch: str) -> None:
    if not LIBRARY.exists():
        pytest.skip("run `make amd-software`")
    if not (ROOT / "hipcomm" / "code_objects" / arch).is_dir():
        pytest.skip("run `make amd-kernels`")
    assert run_tests(arch, 0, ["-x", "-k", NAMES, *SELECTION], devices=2, timeout=600) == 0
