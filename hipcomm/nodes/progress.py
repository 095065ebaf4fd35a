"""Exchanges that are enqueued on a stream: how far it has come, and what if it does not go on.

An engine's own kernels wait without a bound, and the host is not there to see it: it may have gone on, or
replay a graph. So the stream counts, before and behind each exchange, in memory that the host sees, and a
thread looks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from hipcomm.core import ffi, lib
from hipcomm.errors import PeerTimeout
from hipcomm.memory.slabs import StatusPage
from hipcomm.nodes.failures import SLACK, Failures
from hipcomm.nodes.local import Local

_LOOK = 0.1  # seconds between two looks
_PAGE = 4096  # bytes


class Progress:
    """Of the exchanges of one communicator."""

    def __init__(self, local: Local, failures: Failures, on_late: Callable[[PeerTimeout], object]) -> None:
        """Count from now on.

        Args:
            local: what launches the counting.
            failures: knows the time-out, and how ranks are named.
            on_late: called by a thread, once, with the error, where an exchange has taken longer.
        """
        self._local = local
        self._failures = failures
        self._on_late = on_late
        self._page = StatusPage(_PAGE)
        self._counts = ffi.cast("volatile uint64_t *", self._page.host)
        self._counts[0] = self._counts[1] = 0
        self._device = ffi.cast("uint64_t *", self._page.device)
        self._peers: Sequence[int] = ()
        self._thread: threading.Thread | None = None
        self._is_over = threading.Event()

    def begins(self, peers: Sequence[int], stream: Any) -> None:
        """An exchange with these ranks comes next on the stream."""
        self._peers = peers
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="hipcomm-progress", daemon=True)
            self._thread.start()
        self._local.run(lib.hipcommCommCountUp, self._device, stream=stream)

    def ends(self, stream: Any) -> None:
        """It has been enqueued."""
        self._local.run(lib.hipcommCommCountUp, self._device + 1, stream=stream)

    def _watch(self) -> None:
        seen, since = (0, 0), time.monotonic()
        # a host that waits in the exchange itself is heard first, and knows for whom
        patience = self._failures.timeout + SLACK / 2
        while not self._is_over.wait(_LOOK):
            now = self._counts[0], self._counts[1]
            if now != seen or now[0] == now[1]:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > patience:
                self._on_late(self._failures.late(self._peers))
                return

    def close(self, is_safe: bool) -> None:
        """Look no more. *is_safe*: nothing that counts is running any more."""
        self._is_over.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        if is_safe:
            self._page.free()
