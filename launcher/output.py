"""The ranks' output: whole lines, tagged, to terminal and log files, without ever blocking.

A :class:`Stream` reads one pipe of one rank and hands on lines; a :class:`Terminal` writes them to
one of our own descriptors as fast as whoever reads that takes them. When a terminal is behind, the
streams that feed it are not read, so that the ranks wait as they would without us.
"""

from __future__ import annotations

import fcntl
import os
import sys
import termios
from collections import deque
from typing import BinaryIO

READ_SIZE = 1 << 16
MAX_LINE = 1 << 20  # a longer line is broken, so that memory is bounded
MAX_BACKLOG = 1 << 20  # bytes; a terminal with more than that is behind
PIPE_BUF = 4096  # a writable pipe takes this much without blocking
TAIL_LINES = 20
TAIL_LINE_BYTES = 1000


class Terminal:
    """One of our own output descriptors.

    Args:
        descriptor: the file descriptor; it stays in blocking mode, since others may share it. Call
            :meth:`write_some` only when it is writable.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._chunks: deque[bytes] = deque()
        self.backlog = 0  # bytes
        #: What ended the output: a ConnectionError where nobody reads it any more.
        self.error: OSError | None = None

    @property
    def is_behind(self) -> bool:
        """Tell whether its streams should wait."""
        return self.backlog > MAX_BACKLOG

    def put(self, data: bytes) -> None:
        """Queue *data*, whole lines as a rule."""
        if self.error is not None or not data:
            return
        self.backlog += len(data)
        # Short lines travel together, a line is split only if it alone is longer than PIPE_BUF.
        if self._chunks and len(self._chunks[-1]) + len(data) <= PIPE_BUF:
            self._chunks[-1] += data
        else:
            self._chunks.extend(data[at : at + PIPE_BUF] for at in range(0, len(data), PIPE_BUF))

    def write_some(self) -> None:
        """Write one chunk. A reader that is gone, or a full disk, ends the output, not the job."""
        if not self._chunks:
            return
        try:
            written = os.write(self.descriptor, self._chunks[0])
        except BlockingIOError:
            return  # somebody else has made it non-blocking
        except OSError as error:
            self.error = error
            self._chunks.clear()
            self.backlog = 0
            return
        self.backlog -= written
        rest = self._chunks.popleft()[written:]
        if rest:
            self._chunks.appendleft(rest)


class Stream:
    """One rank's standard output or standard error.

    Args:
        pipe: our end of the pipe; made non-blocking here, closed by :meth:`close`.
        tag: what every line begins with on the terminal.
        terminal: where lines are shown, or None.
        log: the open, unbuffered log file, or None; closed by :meth:`close`.
        whole_lines: whether the terminal gets whole lines only; otherwise bytes as they come.
    """

    def __init__(
        self, pipe: BinaryIO, tag: bytes, terminal: Terminal | None, log: BinaryIO | None, whole_lines: bool
    ) -> None:
        self.terminal = terminal
        self.tail: deque[bytes] = deque(maxlen=TAIL_LINES)
        self.log_error: OSError | None = None
        self._pipe = pipe
        self._tag = tag
        self._log = log
        self._whole_lines = whole_lines
        self._partial = b""
        os.set_blocking(pipe.fileno(), False)

    @property
    def descriptor(self) -> int:
        """Return the pipe's file descriptor."""
        return self._pipe.fileno()

    def read_some(self, size: int = READ_SIZE) -> bool:
        """Read what is there and pass it on; return False once the other end is closed."""
        try:
            data = os.read(self.descriptor, size)
        except BlockingIOError:
            return True
        if not data:
            return False
        self._write_log(data)
        if self.terminal is not None and not self._whole_lines:
            self.terminal.put(data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > MAX_LINE:
            lines.append(self._partial)
            self._partial = b""
        self._pass_on(lines)
        return True

    def close(self) -> None:
        """Pass on what the pipe holds, the last, unfinished line too, and close pipe and log.

        As much as it holds now, not all until its other end is closed: a stranger may hold that open.
        """
        held = fcntl.ioctl(self.descriptor, termios.FIONREAD, bytes(4))
        self.read_some(int.from_bytes(held, sys.byteorder))
        if self._partial:
            self._pass_on([self._partial])
            self._partial = b""
        self._pipe.close()
        if self._log is not None:
            self._log.close()

    def _pass_on(self, lines: list[bytes]) -> None:
        self.tail.extend(line[:TAIL_LINE_BYTES] for line in lines[-TAIL_LINES:])
        if self.terminal is not None and self._whole_lines:
            for line in lines:
                self.terminal.put(self._tag + line + b"\n")

    def _write_log(self, data: bytes) -> None:
        if self._log is None:
            return
        try:
            self._log.write(data)
        except OSError as error:  # a full disk ends the log, not the job
            self.log_error = error
            self._log.close()
            self._log = None
