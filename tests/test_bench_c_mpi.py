"""hipcomm's C API beside MPI's, with the MPI that is in PATH, briefly."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hipcomm_bench import c_mpi

PROGRAMS = Path(sys.executable).parent  # where PyPI's Open MPI, a dev dependency, lies


def test_both_are_measured_and_right(monkeypatch):
    monkeypatch.setenv("PATH", f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}")
    if not c_mpi.launchers(("openmpi",)):
        pytest.skip("no Open MPI with an mpicc")
    options = ("openmpi", "-g", "2", "-b", "8", "-e", "512", "-f", "8", "--budget", "0.01", "-T", "60")
    command = [sys.executable, "-m", "hipcomm_bench.c_mpi", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"^\| (\d+ B) \| [\d.]+ \| [\d.]+ \| [\d.]+ \| [\d.]+ \|$", done.stdout, re.MULTILINE)
    assert rows == ["8 B", "64 B", "512 B"], done.stdout


def test_without_an_mpi_it_says_how_to_get_one(tmp_path):
    command = [sys.executable, "-m", "hipcomm_bench.c_mpi", "mpich"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 2 and "hipcomm_bench.mpi_venvs" in done.stderr
