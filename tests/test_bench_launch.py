"""The jobs that hipcomm-bench starts: what becomes of them and their figures when they fail or are ended."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from hipcomm_bench.launch import JobFailed, run_job
from hipcomm_bench.results import Job, Options, Row

OPTIONS = Options(
    op="all_reduce",
    dtype="float32",
    redop="sum",
    sizes=[1024],
    iterations=40,
    warmup=2,
    budget=0.05,
    check=True,
    contestants=["hipcomm"],
    modes=[False],
    graph=None,
)


def test_a_job_that_fails_or_takes_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hipcomm_bench.launch.hipcomm_run", lambda ranks: (["false"], []))
    with pytest.raises(JobFailed, match="exit code 1: false"):
        run_job(OPTIONS, 2, timeout=10)
    monkeypatch.setattr("hipcomm_bench.launch.hipcomm_run", lambda ranks: (["sh", "-c", "sleep 60"], []))
    with pytest.raises(JobFailed, match=r"not done after 0\.2 s: sh"):
        run_job(OPTIONS, 2, timeout=0.2)


def test_figures_survive_the_job_that_found_them(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(ranks=2, rows=[Row("hipcomm", 8, 2, True, 1.0, 2.0, 1.0, 1.0, 5, 0)])
    script = f"import sys; open(sys.argv[-1], 'w').write({json.dumps(asdict(job))!r}); sys.exit(3)"
    launcher = [sys.executable, "-c", script]
    monkeypatch.setattr("hipcomm_bench.launch.hipcomm_run", lambda ranks: (launcher, []))
    found = run_job(OPTIONS, 2, timeout=20)
    assert found.rows == job.rows
    assert found.failure.startswith("exit code 3")


def test_a_benchmark_that_is_terminated_ends_its_ranks(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    script = (
        "from hipcomm_bench.launch import run_bounded; "
        f"run_bounded(['sh', '-c', 'echo $$ > {file}.new; mv {file}.new {file}; exec sleep 60'], 60, False)"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        deadline = time.monotonic() + 30
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.terminate()
        assert process.wait(30) == 143
    while _is_alive(int(file.read_text())) and time.monotonic() < deadline + 30:
        time.sleep(0.01)
    assert not _is_alive(int(file.read_text()))


def test_a_benchmark_that_is_terminated_while_it_starts_ranks_ends_them() -> None:
    script = """if True:
        import os, signal, subprocess, time
        from hipcomm_bench.launch import run_bounded
        class Slow(subprocess.Popen):
            def __init__(self, *arguments, **keywords):
                super().__init__(*arguments, **keywords)
                print(self.pid, flush=True)
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.01)
        subprocess.Popen = Slow
        run_bounded(["sleep", "60"], 60, False)
    """
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 143
    assert not _is_alive(int(ended.stdout))


def _is_alive(pid: int) -> bool:
    """Whether there is such a process, other than one that its new parent has yet to reap."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
