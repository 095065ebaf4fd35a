"""A call that may fail, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import hipcomm


class Outcome(NamedTuple):
    """The error that a call raised; the name is "none" if it raised none."""

    name: str = "none"
    message: str = ""
    peer: int | None = None


def attempt(call: Callable[[], Any]) -> Outcome:
    """Make a call that raises nothing but hipcomm's errors."""
    try:
        call()
    except hipcomm.Error as error:
        return Outcome(type(error).__name__, str(error), getattr(error, "peer", None))
    return Outcome()


def timed_attempt(call: Callable[[], Any]) -> tuple[Outcome, float]:
    """Likewise, and how many seconds it took."""
    started = time.monotonic()
    outcome = attempt(call)
    return outcome, time.monotonic() - started
