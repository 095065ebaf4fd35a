"""hipcomm-bench's contestant copies: the floor under an all-reduce of two processes on a CPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness import PLATFORM

from hipcomm_bench.results import Job

pytestmark = [
    pytest.mark.skipif(PLATFORM != "cpu", reason="it works on NumPy arrays"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
]


def job_of(tmp_path: Path, *arguments: str) -> Job:
    command = [sys.executable, "-m", "hipcomm_bench", *arguments, "--compare", "copies", "-n", "5"]
    command += ["--budget", "0.01", "--output", str(tmp_path / "r")]
    environment = {**os.environ, "HIPCOMM_PLATFORM": "cpu"}
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (job,) = (Job.from_dict(job) for job in json.loads((tmp_path / "r.json").read_text("utf-8"))["jobs"])
    return job


def test_it_adds_messages_of_any_length(tmp_path: Path) -> None:
    """From one element, of which one rank has nothing to add, to several chunks and a rest."""
    job = job_of(tmp_path, "-g", "2", "-b", "4", "-e", "1300000", "-f", "7")
    rows = [row for row in job.rows if row.contestant == "copies"]
    assert len(rows) == 2 * 7, job.missing  # sizes, in place and out of place
    assert [row.wrong for row in rows] == [0] * len(rows)


@pytest.mark.parametrize(
    "arguments",
    [("-g", "3"), ("all_gather", "-g", "2"), ("-g", "2", "-d", "int32"), ("-g", "2", "-o", "max")],
)
def test_it_says_what_it_is_not_for(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    job = job_of(tmp_path, *arguments, "-b", "1K", "-e", "1K")
    assert not [row for row in job.rows if row.contestant == "copies" and row.p50_us is not None]
    assert "copies" in str(job.missing) + str(job.unsupported)
