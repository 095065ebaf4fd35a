"""The NVIDIA platform on real GPUs, driven through hip-python.

Every check of ``platform_cuda_checks.py`` runs in a process of its own. As a script this file prints one line
for each: ``python tests/gpu/test_platform_cuda.py``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PLATFORM = ROOT / "hipcomm" / "platforms" / "cuda"
LIBRARY = PLATFORM / "lib" / "libamdhip64.so"
PROGRAMS = Path(__file__).resolve().parent / "platform_cuda_checks.py"
NAMES = re.findall(r"^@check\ndef (\w+)", PROGRAMS.read_text(), re.MULTILINE)
COUNT = """
import ctypes, sys
count = ctypes.c_int()
ctypes.CDLL(sys.argv[1]).hipGetDeviceCount(ctypes.byref(count))
print(count.value)
"""


def device_count() -> int:
    """How many NVIDIA GPUs the platform finds; asked in another process, to keep this one free of CUDA."""
    if not LIBRARY.exists():
        return 0
    done = subprocess.run(
        [sys.executable, "-c", COUNT, str(LIBRARY)], capture_output=True, text=True, timeout=60, check=True
    )
    return int(done.stdout)


def why_not(name: str, devices: int) -> str | None:
    """Why a check cannot run here, or None."""
    if not LIBRARY.exists():
        return f"{LIBRARY} is not built: run make"
    needed = 2 if name.startswith("two_devices") else 1
    return None if devices >= needed else f"needs {needed} NVIDIA GPU(s), found {devices}"


def run(name: str) -> subprocess.CompletedProcess[str]:
    """Run one check, for two minutes at most."""
    environment = {**os.environ, "ROCM_PATH": str(PLATFORM)}
    return subprocess.run(
        [sys.executable, str(PROGRAMS), name],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def devices() -> int:
    """The number of GPUs."""
    return device_count()


@pytest.mark.parametrize("name", NAMES)
def test_check(name: str, devices: int) -> None:
    """A check ends without an exception."""
    reason = why_not(name, devices)
    if reason is not None:
        pytest.skip(reason)
    done = run(name)
    assert done.returncode == 0, done.stderr


def main() -> int:
    """Run everything that can run here, a line each; the number of failures."""
    devices = device_count()
    failed = 0
    for name in NAMES:
        reason = why_not(name, devices)
        if reason is not None:
            print(f"skip  {name}: {reason}")
            continue
        start = time.monotonic()
        try:
            done = run(name)
            passed, text = done.returncode == 0, done.stdout if done.returncode == 0 else done.stderr[-2000:]
        except subprocess.TimeoutExpired:
            passed, text = False, "timed out after 120 s"
        failed += not passed
        print(f"{'ok  ' if passed else 'FAIL'}  {name} ({time.monotonic() - start:.1f} s)", flush=True)
        for line in text.splitlines():
            print(f"      {line}", flush=True)
    print(f"{failed} of {len(NAMES)} failed on {devices} GPU(s)")
    return failed


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
