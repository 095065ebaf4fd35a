"""The AMD kernels are executed: a selection of the product's own tests, on the GPU in software.

`make test-amd` runs all of them.
"""

from __future__ import annotations

import pytest
from assembly import LIBRARY
from run import ARCHITECTURES, ROOT, run_tests

SELECTION = (
    "tests/test_all_reduce.py::test_integer_averages[2]",
    "tests/test_all_gather.py",
    "tests/test_graphs.py",
)
NAMES = "test_integer_averages or (test_all_gather and 2 and not boundary) or (test_graphs and 2)"


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_selection(arch: str) -> None:
    if not LIBRARY.exists():
        pytest.skip("run `make amd-software`")
    if not (ROOT / "hipcomm" / "code_objects" / arch).is_dir():
        pytest.skip("run `make amd-kernels`")
    assert run_tests(arch, 0, ["-x", "-k", NAMES, *SELECTION], devices=2, timeout=600) == 0
