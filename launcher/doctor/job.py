"""What a running job is doing: hipcomm-run asks its ranks, and we show what they say."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import click

from hipcomm.errors import RendezvousError
from hipcomm_launcher.inquiry import PATIENCE, report_file

WAIT = PATIENCE + 3.0  # seconds for hipcomm-run to answer
INTERVAL = 0.05  # seconds between two looks
COMMANDS = ("hipcomm-run", "hipcomm_launcher")


def show_job(launcher: int) -> None:
    """Print what the ranks of a job are doing.

    Args:
        launcher: the process number of its hipcomm-run; 0: of the only one that this user runs.

    Raises:
        click.ClickException: there is no such job, or it does not answer.
    """
    pid = launcher or _only_job()
    if not _takes_the_signal(pid):
        raise click.ClickException(f"process {pid} is no hipcomm-run of this user that could be asked")
    try:
        path = report_file(_runtime_directory(pid), pid)
        path.unlink(missing_ok=True)
        os.kill(pid, signal.SIGUSR1)
    except (OSError, RendezvousError) as error:
        raise click.ClickException(f"cannot ask process {pid}: {error}") from error
    deadline = time.monotonic() + WAIT
    while not path.exists():
        if time.monotonic() >= deadline:
            raise click.ClickException(f"hipcomm-run (process {pid}) did not answer within {WAIT:g} s")
        time.sleep(INTERVAL)
    click.echo(path.read_text(errors="replace"), nl=False)
    path.unlink(missing_ok=True)


def _only_job() -> int:
    jobs = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal() and _is_job(entry)]
    if len(jobs) != 1:
        found = f"there are {len(jobs)}: {', '.join(map(str, jobs))}" if jobs else "there is none"
        raise click.ClickException(f"which job? Of this user's hipcomm-run, {found}; give its process number")
    return jobs[0]


def _is_job(process: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        is_ours = process.stat().st_uid == os.geteuid() and int(process.name) != os.getpid()
    except OSError:
        return False  # it has just ended
    named = any(Path(word).name in COMMANDS for word in words[:3])
    return is_ours and named and _takes_the_signal(int(process.name))


def _takes_the_signal(pid: int) -> bool:
    """Whether it has a handler: SIGUSR1 would end any other program."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
    is_launcher = any(name.encode() in command for name in COMMANDS)
    return is_launcher and bool(caught >> signal.SIGUSR1 - 1 & 1)


def _runtime_directory(pid: int) -> str:
    """XDG_RUNTIME_DIR as that process has it."""
    for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
        if entry.startswith(b"XDG_RUNTIME_DIR="):
            return os.fsdecode(entry.partition(b"=")[2])
    return ""
