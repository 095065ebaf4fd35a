"""The figures of hipcomm_bench.calls are taken; what they are no test can say."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from harness import PLATFORM


@pytest.mark.skipif(PLATFORM != "cpu", reason="it measures the CPU platform")
def test_every_figure_is_there(tmp_path):
    run = [sys.executable, "-m", "hipcomm_launcher", "--no-tag", "-n", "2", "--platform", "cpu"]
    command = [*run, sys.executable, "-m", "hipcomm_bench.calls", "--directory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"^a call from .*: [\d.]+ µs over the launch$", done.stdout, re.MULTILINE)) == 4
