"""The ranks' output: tagged lines, to terminal and log files, without ever blocking.

A :class:`Stream` reads one pipe of one rank and hands on lines; a :class:`Terminal` writes them to
one of our own descriptors as fast as its reader takes them. When a terminal is behind, the
streams that feed it are not read, so that the ranks wait as they would without us.

A carriage return ends a line too, as progress bars have it. A line that stays unfinished, a prompt say, is
shown as far as it goes after a second, or at once where there is one rank.
"""

from __future__ import annotations

import fcntl
import os
import re
import sys
import termios
import time
from collections import deque
from typing import BinaryIO

READ_SIZE = 1 << 16
MAX_LINE = 1 << 20  # a longer line is broken, so that memory is bounded
MAX_BACKLOG = 1 << 20  # bytes; a terminal with more than that is behind
PIPE_BUF = 4096  # a writable pipe takes this much without blocking
HOLD_TIME = 1.0  # seconds that an unfinished line is held back
TAIL_LINES = 20
TAIL_LINE_BYTES = 1000

# A carriage return at the very end may be half of a CR LF.
_LINE_END = re.compile(rb"\r?\n|\r(?=[^\n])")


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
        self._unfinished: object = None  # whose line has begun and not ended

    @property
    def is_behind(self) -> bool:
        """Tell whether its streams should wait."""
        return self.backlog > MAX_BACKLOG

    def put_line(self, owner: object, tag: bytes, line: bytes) -> None:
        """Queue a line of *owner*, or a piece of one; *tag* goes before its beginning.

        A line that another one interrupts ends there.
        """
        if self._unfinished is not owner:
            tag = tag if self._unfinished is None else b"\n" + tag
            self._unfinished = None
        self.put(line if self._unfinished is owner else tag + line)
        self._unfinished = None if line.endswith((b"\n", b"\r")) else owner

    def return_carriage(self, owner: object) -> None:
        """Go back to the beginning of the line of *owner*, if it has begun."""
        if self._unfinished is owner:
            self.put_line(owner, b"", b"\r")

    def end_line(self, owner: object) -> None:
        """End the line of *owner* if it is unfinished."""
        if self._unfinished is owner:
            self.put_line(owner, b"", b"\n")

    def put(self, data: bytes) -> None:
        """Queue *data*."""
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
        whole_lines: whether the terminal gets lines; otherwise bytes as they come.
        hold_time: seconds that an unfinished line is held back.
    """

    def __init__(
        self,
        pipe: BinaryIO,
        tag: bytes,
        terminal: Terminal | None,
        log: BinaryIO | None,
        whole_lines: bool,
        hold_time: float = HOLD_TIME,
    ) -> None:
        self.terminal = terminal
        self.tail: deque[bytes] = deque(maxlen=TAIL_LINES)
        self.log_error: OSError | None = None
        #: When :meth:`show_unfinished` is due, on the monotonic clock.
        self.deadline = float("inf")
        self._pipe = pipe
        self._tag = tag
        self._log = log
        self._whole_lines = whole_lines
        self._hold_time = hold_time
        self._held = b""  # of a line that is not shown yet
        self._line = b""  # the line as a terminal would show it now, for the tail
        self._has_returned = False  # the carriage: what comes next takes the line's place
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
        held = self._held + data
        end = 0
        for found in _LINE_END.finditer(held):
            self._pass_on(held[end : found.end()])
            end = found.end()
        self._held = held[end:]
        if len(self._held) > MAX_LINE:
            self._pass_on(self._held + b"\n")
            self._held = b""
        if not self._held:
            self.deadline = float("inf")
        elif end or self.deadline == float("inf"):
            self.deadline = time.monotonic() + self._hold_time
        if self._hold_time == 0:
            self.show_unfinished()
        return True

    def show_unfinished(self) -> None:
        """Show as much of the last line as there is, but for a carriage return: half of its end perhaps."""
        shown = self._held.removesuffix(b"\r")
        self._held = self._held[len(shown) :]
        self.deadline = float("inf")
        if shown:
            self._pass_on(shown)

    def close(self) -> None:
        """Pass on what the pipe holds, the last, unfinished line too, and close pipe and log.

        As much as it holds now, not all until its other end is closed: a stranger may hold that open.
        """
        held = fcntl.ioctl(self.descriptor, termios.FIONREAD, bytes(4))
        self.read_some(int.from_bytes(held, sys.byteorder))
        self.show_unfinished()
        if self.terminal is not None:
            self.terminal.end_line(self)
        if self._line:
            self.tail.append(self._line)
            self._line = b""
        self._pipe.close()
        if self._log is not None:
            self._log.close()

    def _pass_on(self, piece: bytes) -> None:
        """Hand on a line with its end, or a piece of one without."""
        text = piece.rstrip(b"\r\n")
        if self._has_returned and text:
            self._line = b""
        self._line = (self._line + text)[:TAIL_LINE_BYTES]
        self._has_returned = piece.endswith(b"\r") or (self._has_returned and not text)
        if piece.endswith(b"\n"):
            self.tail.append(self._line)
            self._line, self._has_returned = b"", False
        # nothing is returned over where a line has not begun
        if self.terminal is not None and self._whole_lines and piece != b"\r":
            self.terminal.put_line(self, self._tag, piece)
        elif self.terminal is not None and self._whole_lines:
            self.terminal.return_carriage(self)

    def _write_log(self, data: bytes) -> None:
        if self._log is None:
            return
        try:
            self._log.write(data)
        except OSError as error:  # a full disk ends the log, not the job
            self.log_error = error
            self._log.close()
            self._log = None
