"""Starting the ranks of a benchmark job, and waiting for them with a limit.

MPI's ranks have to be started by mpirun, and hipcomm runs under mpirun as well as under its own launcher.
So where Open MPI takes part, mpirun starts one job in which all contestants share the processes and take
turns; otherwise hipcomm-run does.
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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from hipcomm_bench.machine import usable_cores
from hipcomm_bench.progress import Bar
from hipcomm_bench.results import Job, Options
from hipcomm_bench.workloads import libraries

_GRACE = 10.0


class JobFailed(Exception):
    """A job ended without a result. The message says how; what the ranks wrote is on stderr."""


def run_job(options: Options, ranks: int, timeout: float) -> Job:
    """Start `ranks` ranks, let them measure and print, and return the results.

    A job that fails after its first figures is returned with them, and with its failure.

    Raises:
        JobFailed: a launcher is missing, the job failed, or it took more than `timeout` seconds, and
            there are no figures.
    """
    kinds = [libraries(options.op)[name] for name in options.contestants]
    by_mpirun = any(kind.by_mpirun and kind.why_missing() is None for kind in kinds)
    launcher, notes = _mpirun(ranks) if by_mpirun else hipcomm_run(ranks)
    failure = ""
    with tempfile.TemporaryDirectory(prefix="hipcomm-bench-") as directory:
        options_file, result_file = Path(directory, "options.json"), Path(directory, "result.json")
        options_file.write_text(json.dumps(asdict(options)), encoding="utf-8")
        worker = ["-m", "hipcomm_bench.worker", str(options_file), str(result_file)]
        try:
            run_bounded([*launcher, *worker], timeout, options.progress)
        except JobFailed as error:
            if not result_file.exists():
                raise
            failure = str(error)
        try:
            job = Job.from_dict(json.loads(result_file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise JobFailed(f"no result came from: {' '.join(launcher)}") from None
    job.launcher = " ".join([Path(launcher[0]).name, *launcher[1:]])
    job.notes += notes
    job.failure = failure
    return job


def _mpirun(ranks: int) -> tuple[list[str], list[str]]:
    """Return mpirun's command line up to Python's arguments, and what to tell the reader about it."""
    # Open MPI looks for an ssh, which it does not use on one machine
    command = ["mpirun", "--mca", "plm_rsh_agent", "true", "--oversubscribe", "-n", str(ranks)]
    if os.geteuid() == 0:
        command.insert(1, "--allow-run-as-root")
    if ranks <= usable_cores():
        # Unbound, two spinning ranks may share a core for whole time slices of the scheduler.
        command += ["--bind-to", "core"]
        bound = "each bound to a core of its own"
    else:
        command += ["--bind-to", "none", "--mca", "mpi_yield_when_idle", "1"]
        bound = (
            f"bound to no core. {ranks} ranks on {usable_cores()} cores: Open MPI runs with"
            " mpi_yield_when_idle 1, with which its waiting ranks give way to the others"
        )
    # mpi4py as the main module ends the whole job when a rank fails.
    command += [sys.executable, "-m", "mpi4py"]
    return command, [f"all contestants share the processes that mpirun started, {bound}"]


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
        raise JobFailed("hipcomm-run is not installed, and Open MPI does not take part")
    return [sys.executable, "-m", "hipcomm_launcher", "-n", str(ranks), "--no-tag", sys.executable], []


def run_bounded(command: list[str], timeout: float, progress: bool) -> None:
    """Run `command` to its end, in a session of its own, so that a time-out or Ctrl-C ends all of it.

    Args:
        command: what to run.
        timeout: seconds.
        progress: whether its output has marks in it, for a bar on the terminal.

    Raises:
        JobFailed: it failed, or took too long.
    """
    with _ended_by_sigterm():
        code = _run(command, timeout, progress)
    if code != 0:
        raise JobFailed(f"exit code {code}: {' '.join(command)}")


def _run(command: list[str], timeout: float, progress: bool) -> int:
    """Run `command` to its end; return its exit code. Raises JobFailed where it took too long."""
    environment = {"OMP_NUM_THREADS": "1", **os.environ}  # the ranks are the parallelism
    process = subprocess.Popen(
        command,
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE if progress else None,
        text=True,
    )
    reader = None
    try:
        if process.stdout is not None:
            reader = threading.Thread(target=Bar().show, args=(process.stdout,), daemon=True)
            reader.start()
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        raise JobFailed(f"not done after {timeout:g} s: {' '.join(command)}") from None
    finally:
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
