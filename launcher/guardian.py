"""The guardian: a process per job that kills the ranks and their children if the launcher dies.

Run as a plain script, in a session of its own and without any job's mark. Its standard input is a pipe
whose other end only the launcher holds, so it ends when the launcher does, however that may be. What
comes through the pipe, one line each: a number (the process id, and so the session, of a rank), or ``done``.

It kills whatever belongs to a rank's session or carries the job's ``HIPCOMM_JOB_ID`` in its
environment: the latter finds children that have made themselves a session of their own. The launcher
uses the same search when a job ends. Only the standard library, and little of it: it starts with
every job.
"""

# ruff: noqa: PTH123, PTH208 - pathlib would be half of its start-up time
from __future__ import annotations

import os
import signal
import sys
import time

PATIENCE = 10.0  # seconds for the killed to disappear
INTERVAL = 0.02  # seconds between two looks


def find_processes(job_id: str, sessions: set[int]) -> dict[int, int]:
    """Find the live processes of a job: process id to process group.

    Args:
        job_id: the job's ``HIPCOMM_JOB_ID``.
        sessions: sessions and process groups that belong to the job.
    """
    cookie = b"HIPCOMM_JOB_ID=" + job_id.encode()
    found: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdecimal() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                # pid (name) state parent group session ...; the name may hold anything.
                state, _, group, session = file.read().rpartition(b")")[2].split()[:4]
            if state in (b"Z", b"X"):
                continue
            if int(session) not in sessions and int(group) not in sessions:
                with open(f"/proc/{entry}/environ", "rb") as file:
                    if cookie not in file.read().split(b"\0"):
                        continue
            found[int(entry)] = int(group)
        except OSError:
            continue  # it has ended, or it is not ours to look at
    return found


def send_signal(pid: int, number: int) -> None:
    """Signal one process; one that has just ended is no error."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return  # gone, or changed its user: then it is beyond our power


def main(job_id: str) -> None:
    """Wait for the launcher's end; kill what is left unless the launcher said ``done``."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sessions: set[int] = set()
    for line in sys.stdin:
        if line == "done\n":
            return
        if line.endswith("\n"):  # a half-written number would be another one
            sessions.add(int(line))
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = find_processes(job_id, sessions)
        if not found:
            return
        for pid in found:
            send_signal(pid, signal.SIGKILL)
        time.sleep(INTERVAL)


if __name__ == "__main__":
    main(sys.argv[1])
