"""One rank's process: how it is started, how it ended, and its two output streams."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO, cast

from .output import Stream, Terminal

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _prepare(launcher: int, cpus: frozenset[int] | None) -> Callable[[], None]:
    """Return what a child runs between fork and exec: the kernel shall kill it with the launcher; binding.

    Only safe while the launcher has a single thread, which is why all ranks are started first.
    """

    def prepare() -> None:
        if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() != launcher:
            os._exit(128 + signal.SIGKILL)  # it died before we could ask for that
        if cpus is not None:
            os.sched_setaffinity(0, cpus)

    return prepare


def signal_name(number: int) -> str:
    """Return ``SIGSEGV`` for 11."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Worker:
    """One rank's process, in a session of its own.

    Rank 0 inherits our standard input; the others get an empty one. The process is not reaped before
    :meth:`reap`, so that its number cannot pass to a stranger while we may still signal it.

    Args:
        rank: its rank.
        command: the argument vector.
        environment: the whole environment.
        whole_lines: whether terminals get lines; otherwise bytes as they come.
        hold_time: seconds that an unfinished line is held back.
        tag: what every line begins with on a terminal.
        terminals: for standard output and standard error; None: not shown.
        logs: the same for open log files.
        cpus: the processors that it is bound to; None: those that we run on.

    Raises:
        OSError: the program cannot be executed.
    """

    def __init__(
        self,
        rank: int,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        whole_lines: bool,
        hold_time: float,
        tag: bytes,
        terminals: tuple[Terminal | None, Terminal | None],
        logs: tuple[BinaryIO | None, BinaryIO | None],
        cpus: frozenset[int] | None = None,
    ) -> None:
        self.rank = rank
        self.started = time.monotonic()
        self.ended: float | None = None
        #: The exit code, or minus the signal's number; None while it runs.
        self.result: int | None = None
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=None if rank == 0 else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            preexec_fn=_prepare(os.getpid(), cpus),  # noqa: PLW1509 - there is one thread, see _prepare
        )
        self.pid = self._process.pid
        out, err = cast(BinaryIO, self._process.stdout), cast(BinaryIO, self._process.stderr)
        self.stdout = Stream(out, tag, terminals[0], logs[0], whole_lines, hold_time)
        self.stderr = Stream(err, tag, terminals[1], logs[1], whole_lines, hold_time)

    def check(self) -> bool:
        """Tell whether the process has just ended; note when and how. Does not reap it."""
        if self.result is not None:
            return False
        info = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if info is None:
            return False
        self.ended = time.monotonic()
        self.result = info.si_status if info.si_code == os.CLD_EXITED else -info.si_status
        return True

    @property
    def exit_code(self) -> int:
        """Return the result as a shell has it: 128 + n for a signal."""
        result = self.result or 0
        return result if result >= 0 else 128 - result

    @property
    def seconds(self) -> float:
        """Return how long it ran, or has been running, in seconds."""
        return (self.ended or time.monotonic()) - self.started

    def describe_end(self) -> str:
        """Return ``exited with code 3`` or ``was killed by SIGSEGV``."""
        if self.result is None:
            return "is still running"
        if self.result < 0:
            return f"was killed by {signal_name(-self.result)}"
        return f"exited with code {self.result}"

    def signal_group(self, number: int) -> None:
        """Signal the process and its group."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return  # all of it has ended, or runs as another user: nothing more we could do

    def reap(self) -> None:
        """Let the kernel forget a process that has ended."""
        if self.result is not None:
            self._process.wait()
