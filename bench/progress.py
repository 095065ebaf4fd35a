"""How far a job is, on a terminal: a line below the table. Elsewhere the table's lines are progress enough.

The ranks do not own the terminal. Rank 0 writes marked lines among its output, and the process that has
started the job takes them out and draws the bar.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import TextIO

_MARK = "\x1e"  # the record separator: in no table
_WIDTH = 30
_ERASE = "\r\x1b[2K"


def mark(done: int, total: int, what: str) -> str:
    """Return the line that says that `done` of `total` steps are done, and `what` comes next."""
    return f"{_MARK}{done} {total} {what}"


class Bar:
    """The bar at the foot of a terminal."""

    def __init__(self, out: TextIO | None = None) -> None:
        """Draw on `out`, by default standard output."""
        self._out = out or sys.stdout
        self._started = time.monotonic()
        self._bar = ""

    def show(self, lines: Iterable[str]) -> None:
        """Copy `lines` as they come, and draw the bar for those that are marks."""
        for line in lines:
            if line.startswith(_MARK):
                self._bar = self._draw(line[len(_MARK) :].rstrip("\n"))
                self._out.write(_ERASE + self._bar)
            else:
                self._out.write(_ERASE + line + self._bar)
            self._out.flush()
        self._out.write(_ERASE)
        self._out.flush()

    def _draw(self, text: str) -> str:
        done, total, what = text.split(" ", 2)
        share = int(done) / max(1, int(total))
        elapsed = time.monotonic() - self._started
        left = f", about {elapsed / share - elapsed:.0f} s left" if share > 0 else ""
        bar = "#" * round(share * _WIDTH)
        return f"[{bar:-<{_WIDTH}}] {done}/{total} {what}{left}"
