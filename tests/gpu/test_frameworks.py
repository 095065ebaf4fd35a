"""Arrays of CuPy, PyTorch, JAX and Numba on a GPU that the ranks share."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness import device_count

PROGRAM = Path(__file__).resolve().parent / "framework_cases.py"
NAMES = re.findall(r"^@case\(.*\)\ndef (\w+)", PROGRAM.read_text(), re.MULTILINE)


@functools.cache
def lines(world: int) -> list[str]:
    """What the ranks have printed; all cases in one run, as frameworks take long to import."""
    command = [sys.executable, "-m", "hipcomm_launcher", "-n", str(world), "--platform", "nvidia"]
    environment = {**os.environ, "HIPCOMM_SHARE_DEVICES": "1"}
    done = subprocess.run(
        [*command, sys.executable, str(PROGRAM)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    return [*(line.partition("] ")[2] or line for line in done.stdout.splitlines()), done.stderr[-3000:]]


@pytest.mark.parametrize("world", (1, 2))
@pytest.mark.parametrize("name", NAMES)
def test_case(name: str, world: int) -> None:
    if device_count("nvidia") < 1:
        pytest.skip("needs an NVIDIA GPU")
    said = [line for line in lines(world) if re.match(rf"(ok|skip|FAIL) {name}\b", line)]
    if said and all(line.startswith("skip") for line in said):
        pytest.skip(f"not installed: {said[0].partition(': ')[2]}")
    assert said == [f"ok {name}"] * world, said or lines(world)[-1]
