"""Starting the ranks of a benchmark job, and waiting for them with a limit.

MPI's ranks have to be started by its mpirun, and hipcomm runs under mpirun as well as under its own launcher.
So where an MPI takes part, its mpirun starts one job in which all contestants share the processes and take
turns; otherwise hipcomm-run does. A second MPI needs a second job, in which hipcomm takes part again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType

from hipcomm_bench import mpirun
from hipcomm_bench.contestants.base import Launcher
from hipcomm_bench.progress import Bar
from hipcomm_bench.results import Job, Options
from hipcomm_bench.workloads import libraries

_GRACE = 10.0


class JobFailed(Exception):
    """A job ended without a result. The message says how; what the ranks wrote is on stderr."""


def divide(options: Options) -> list[tuple[Launcher | None, Options]]:
    """Return the jobs that one world takes: who starts the ranks, and who takes part."""
    kinds = {name: libraries(options.op)[name] for name in options.contestants}
    reasons = {n: kind.why_missing() for n, kind in kinds.items() if kind.launcher() is not None}
    mpis = [name for name, reason in reasons.items() if reason is None]
    options = replace(options, absent={name: reason for name, reason in reasons.items() if reason})
    if not mpis:
        return [(None, options)]
    divided = []
    for mpi in mpis:
        if mpi == mpis[0]:
            names = [name for name in kinds if name == mpi or name not in mpis]
        else:
            names = [name for name, kind in kinds.items() if name == mpi or kind.ours]
        divided.append((kinds[mpi].launcher(), replace(options, contestants=names)))
    return divided


def run_job(options: Options, ranks: int, timeout: float, launcher: Launcher | None = None) -> Job:
    """Start `ranks` ranks, let them measure and print, and return the results.

    A job that fails after its first figures is returned with them, and with its failure.

    Raises:
        JobFailed: a launcher is missing, the job failed, or it took more than `timeout` seconds, and
            there are no figures.
    """
    environment: dict[str, str] = {}
    if launcher is None:
        start, notes = hipcomm_run(ranks)
    else:
        start, environment, note = mpirun.command(launcher, ranks)
        notes = [note]
    failure = ""
    with tempfile.TemporaryDirectory(prefix="hipcomm-bench-") as directory:
        options_file, result_file = Path(directory, "options.json"), Path(directory, "result.json")
        options_file.write_text(json.dumps(asdict(options)), encoding="utf-8")
        worker = ["-m", "hipcomm_bench.worker", str(options_file), str(result_file)]
        try:
            run_bounded([*start, *worker], timeout, options.progress, environment)
        except JobFailed as error:
            if not result_file.exists():
                raise
            failure = str(error)
        try:
            job = Job.from_dict(json.loads(result_file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise JobFailed(f"no result came from: {' '.join(start)}") from None
    job.launcher = " ".join([Path(start[0]).name, *start[1:]])
    job.notes += notes
    job.failure = failure
    return job


def hipcomm_run(ranks: int) -> tuple[list[str], list[str]]:
    """Return hipcomm-run's command line up to Python's arguments; there is nothing to tell about it.

    Raises:
        JobFailed: it is not installed.
    """
    beside = Path(sys.executable).with_name("hipcomm-run")
    program = str(beside) if beside.exists() else shutil.which("hipcomm-run")
    if program is not None:
        return [program, "-n", str(ranks), "--no-tag", sys.executable], []
    from importlib.util import find_spec

    if find_spec("hipcomm_launcher") is None:  # a source tree on PYTHONPATH has no commands, but this
        raise JobFailed("hipcomm-run is not installed, and no MPI takes part")
    return [sys.executable, "-m", "hipcomm_launcher", "-n", str(ranks), "--no-tag", sys.executable], []


def run_bounded(
    command: list[str], timeout: float, progress: bool, environment: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Run `command` to its end, in a session of its own, so that a time-out or Ctrl-C ends all of it.

    Args:
        command: what to run.
        timeout: seconds.
        progress: whether its output has marks in it, for a bar on the terminal.
        environment: what it gets beyond this process's variables.

    Raises:
        JobFailed: it failed, or took too long.
    """
    with _ended_by_sigterm():
        code = _run(command, timeout, progress, environment)
    if code != 0:
        raise JobFailed(f"exit code {code}: {' '.join(command)}")


def _run(command: list[str], timeout: float, progress: bool, environment: Mapping[str, str]) -> int:
    """Run `command` to its end; return its exit code. Raises JobFailed where it took too long."""
    process = reader = None
    try:
        with _signals_put_off():
            process = subprocess.Popen(
                command,
                env={"OMP_NUM_THREADS": "1", **os.environ, **environment},  # the ranks are the parallelism
                start_new_session=True,
                stdout=subprocess.PIPE if progress else None,
                text=True,
            )
        if process.stdout is not None:
            reader = threading.Thread(target=Bar().show, args=(process.stdout,), daemon=True)
            reader.start()
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        raise JobFailed(f"not done after {timeout:g} s: {' '.join(command)}") from None
    finally:
        if process is not None:
            _end(process)
        if reader is not None:
            reader.join(_GRACE)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Make SIGTERM an exception meanwhile, so that the ranks do not outlive a benchmark told to end."""
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _signals_put_off() -> Iterator[None]:
    """Deliver SIGTERM and SIGINT afterwards: raised within Popen they would lose the process it started."""
    came: list[int] = []
    put_off = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in put_off}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


def _leave(number: int, _frame: object) -> None:
    """Handle a signal: unwind, and leave with the shell's code for it."""
    raise SystemExit(128 + number)


def _end(process: subprocess.Popen[str]) -> None:
    """End the process's group if it still runs: politely first, so that the launcher ends its ranks."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            continue
