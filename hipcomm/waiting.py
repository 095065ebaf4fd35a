"""Waiting on the host without deafness: the main thread hears of signals that other threads have caught."""

from __future__ import annotations

import threading
import time

_SLICE = 0.1  # seconds
_PAUSE = 5e-5  # seconds


def wait(event: threading.Event, seconds: float) -> bool:
    """Wait for an event; return whether it came.

    A signal that the kernel delivers to another thread does not wake the main one from a lock, and Python
    runs its handlers in the main thread alone: so this wakes up by itself.
    """
    deadline = time.monotonic() + seconds
    while not event.wait(max(0.0, min(_SLICE, deadline - time.monotonic()))):
        if time.monotonic() >= deadline:
            return event.is_set()
    return True


def pause() -> None:
    """Sleep for a moment between two looks at what has no event to wait for."""
    time.sleep(_PAUSE)
