"""What the ranks of a job are doing: asked of them (SIGUSR1, a time-out), for people to read."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from hipcomm.errors import RendezvousError
from hipcomm.rendezvous.endpoint import directory
from hipcomm.rendezvous.server import Server

from . import summary
from .worker import Worker

PATIENCE = 2.0  # seconds for the ranks to answer


class Inquiry:
    """One question to all ranks."""

    def __init__(self, server: Server, workers: Sequence[Worker]) -> None:
        """Ask."""
        self._server = server
        self._workers = workers
        self._deadline = time.monotonic() + PATIENCE
        server.ask()

    def is_over(self) -> bool:
        """Whether all have answered that can, or their time is over."""
        if time.monotonic() >= self._deadline:
            return True
        joined = {each.rank for each in self._server.status() if each.state == "joined"}
        running = {worker.rank for worker in self._workers if worker.result is None}
        return running & joined <= set(self._server.reports())

    def lines(self) -> list[str]:
        """What is known of each rank."""
        statuses, reports = self._server.status(), self._server.reports()
        lines = []
        for worker in self._workers:
            lines.append(summary.describe_rank(worker, statuses[worker.rank]))
            if worker.result is None:
                report = reports.get(worker.rank, "no answer")
                lines += [f"  {line}" for line in [f"process {worker.pid}", *report.splitlines()]]
        return lines


def report_file(runtime_dir: str, launcher: int) -> Path:
    """Where the launcher with that process number leaves what it has found, for hipcomm-doctor."""
    return directory(runtime_dir) / f"job-{launcher}.report"


def leave_report(text: bytes) -> None:
    """Write what was found; a directory that cannot be is no reason to fail: it is on standard error too."""
    try:
        path = report_file(os.environ.get("XDG_RUNTIME_DIR", ""), os.getpid())
        temporary = path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
        temporary.replace(path)
    except (OSError, RendezvousError):
        return
