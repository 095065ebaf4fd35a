"""Signals while a call of the core waits: Python's handlers run, and what they raise ends the call.

Python runs handlers between two instructions of the main thread, and while a call waits there is none. So
the core asks now and then (hipcommCommSetInterrupt). What a handler raises fails the communicator, on all
ranks, and goes on in the main thread once the call is over: from the call itself, or, where that was not one
of hipcomm's (a graph's launch on the CPU), as soon as the program goes on.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from hipcomm.core import check, ffi, lib

_POLL_INTERVAL = 0.01  # seconds

_check_signals = ctypes.pythonapi.PyErr_CheckSignals
_raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in_thread.argtypes = [ctypes.c_ulong, ctypes.py_object]


class Interrupts:
    """Lets signal handlers run while calls on one communicator wait."""

    def __init__(self, comm: Any, fail: Callable[[str], object]) -> None:
        """Have the core ask.

        Args:
            comm: the core's communicator.
            fail: called with a reason when a handler has raised; it fails the communicator.
        """
        self._fail = fail
        self._raised: BaseException | None = None
        # must live as long as the communicator
        self._function = ffi.callback("hipcommInterruptFunction", self._ask, error=1, onerror=self._stop)
        check(lib.hipcommCommSetInterrupt(comm, self._function, ffi.NULL))

    def is_in_handler(self) -> bool:
        """Whether a handler is running in this thread, inside a call on this communicator."""
        return self._is_being_asked(sys._getframe())

    def take(self) -> BaseException | None:
        """What a handler has raised during the main thread's call, once; None in other threads."""
        return self._take() if threading.get_ident() == threading.main_thread().ident else None

    def _take(self) -> BaseException | None:
        raised, self._raised = self._raised, None
        return raised

    def _ask(self, _: Any) -> int:
        """Called by the core in the thread that waits."""
        if threading.get_ident() != threading.main_thread().ident:
            return 0  # Python runs handlers in the main thread alone
        _check_signals()
        return 0

    def _stop(self, kind: type[BaseException], error: BaseException, _: Any) -> int:
        """A handler has raised."""
        self._raised = error
        self._fail(f"its program was interrupted while a call waited: {kind.__name__}: {error}".rstrip(": "))
        threading.Thread(target=self._deliver, name="hipcomm-interrupt", daemon=True).start()
        return 1

    def _deliver(self) -> None:
        """Raise it in the main thread, unless the interrupted call does so itself."""
        main = threading.main_thread().ident
        while self._raised is not None:
            time.sleep(_POLL_INTERVAL)
            if self._is_being_asked(sys._current_frames().get(main or 0)):
                continue  # there it would be lost
            raised = self._take()
            if raised is not None:
                _raise_in_thread(main, _type_of(raised))
            return

    def _is_being_asked(self, frame: FrameType | None) -> bool:
        # no flag could say so: handlers also run as soon as _ask() begins
        codes = (Interrupts._ask.__code__, Interrupts._stop.__code__)
        while frame is not None:
            if frame.f_code in codes and frame.f_locals.get("self") is self:
                return True
            frame = frame.f_back
        return False


def _type_of(error: BaseException) -> type[BaseException]:
    """A type whose instance is *error*: what can be raised in another thread is a type."""

    def instance(*_: object) -> BaseException:
        return error

    kind: type[BaseException] = type(type(error).__name__, (type(error),), {"__new__": instance})
    return kind
