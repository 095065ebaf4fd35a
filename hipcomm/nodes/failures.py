"""What ends a wait for ranks of other nodes, in words that name node and rank."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import NoReturn

from hipcomm.core import lib
from hipcomm.errors import CallMismatch, Error, PeerDied, PeerTimeout, PlatformError
from hipcomm.nodes.layout import Layout
from hipcomm.rendezvous.ranks import Ranks
from hipcomm.waiting import pause

#: Seconds that a wait within a node lasts longer than one between nodes: a rank that waits for another node
#: must say so before the time is over for those that wait for this rank, which would blame it.
SLACK = 1.0
_WORD_PATIENCE = 2.0  # seconds for word of a dead rank, once a carrier has noticed that something is wrong


class Failures:
    """What has gone wrong in a world over nodes.

    Attributes:
        operation: the call that is under way, for messages.
    """

    def __init__(self, ranks: Ranks, layout: Layout, timeout: float) -> None:
        """Listen from now on.

        Args:
            ranks: the communicator's.
            layout: of them.
            timeout: how long a call waits for another node, in seconds.
        """
        self.operation = ""
        self.timeout = timeout
        self._ranks = ranks
        self._layout = layout
        self._event: tuple[int | None, str, int] | None = None
        self._gone: set[int] = set()  # ranks that make no more calls
        self._error: Error | None = None  # what this rank's own call has failed with
        self._listeners: list[Callable[[], object]] = []
        ranks.on_failure(self._on_failure)
        ranks.on_leave(self._gone.add)

    def on_failure(self, callback: Callable[[], object]) -> None:
        """Call it in the client's thread when the job has failed; it must not wait."""
        self._listeners.append(callback)
        if self._event is not None:
            callback()

    def _on_failure(self, peer: int | None, reason: str, result: int) -> None:
        self._event = peer, reason, result
        for callback in self._listeners:
            callback()

    @property
    def has_failed(self) -> bool:
        """Whether the communicator has failed."""
        return self._event is not None or self._error is not None or self._ranks.has_failed

    @property
    def me(self) -> str:
        """What people are told this rank is."""
        return self._layout.name(self._layout.rank)

    def check(self) -> None:
        """Raise what has gone wrong, if something has.

        Raises:
            PeerDied, PeerTimeout, CallMismatch: the communicator has failed.
        """
        if self._error is not None:
            raise type(self._error)(*self._error.args)
        if self._event is None:
            return
        peer, reason, result = self._event
        if peer is not None:
            reason = reason.replace(f"rank {peer} ", f"{self._layout.name(peer)} ", 1)
        text = f"{self.me}: {self.operation}: {reason}"
        raise CallMismatch(text) if result == lib.hipcommCallMismatch else PeerDied(text, peer)

    def check_wait(self, pending: Callable[[], Collection[int]], deadline: float) -> None:
        """Raise where a wait has become pointless.

        Args:
            pending: returns the ranks that are waited for, once; asked only where it matters.
            deadline: of time.monotonic().

        Raises:
            PeerDied, PeerTimeout: naming one of them.
        """
        self.check()
        late = time.monotonic() >= deadline
        if not late and not self._gone:
            return
        missing = list(pending())
        for peer in missing:
            if peer in self._gone:
                raise PeerDied(
                    f"{self.me}: {self.operation} was waiting for {self._layout.name(peer)}, which has left",
                    peer,
                )
        if late and missing:
            raise self.timed_out(missing[0])

    def timed_out(self, peer: int, slack: float = 0.0) -> PeerTimeout:
        """The error of a wait for a rank that did not come."""
        return PeerTimeout(
            f"{self.me}: {self.operation} waited {self.timeout + slack:g} s for {self._layout.name(peer)}, "
            "which did not come; HIPCOMM_TIMEOUT sets how long to wait",
            peer,
        )

    def late(self, peers: Collection[int]) -> PeerTimeout:
        """The error of an exchange that the stream does not get through; which of the ranks is not known."""
        names = " or ".join(map(self._layout.name, sorted(set(peers)))) or "another node"
        return PeerTimeout(
            f"{self.me}: an exchange between nodes has waited {self.timeout:g} s for {names}; "
            "HIPCOMM_TIMEOUT sets how long to wait",
            next(iter(peers), -1),
        )

    def explain(self, error: Exception) -> NoReturn:
        """An engine reports an error: raise what is behind it, where that is heard of in time.

        Raises:
            PeerDied: a rank died.
            PlatformError: else.
        """
        deadline = time.monotonic() + _WORD_PATIENCE
        while time.monotonic() < deadline:
            self.check()
            pause()
        raise PlatformError(f"{self.me}: {self.operation}: {error}") from error

    def inside(self, error: Error) -> Error:
        """The error of a call on the node's communicator, in this one's words."""
        try:
            self.check()
        except Error as known:
            return known
        if str(error).startswith(f"{self.me}: "):
            return error  # of a wait between nodes
        local = getattr(error, "peer", None)
        members = self._layout.members[self._layout.node]
        peer = members[local] if isinstance(local, int) and 0 <= local < len(members) else None
        if isinstance(error, PeerTimeout) and peer is not None:
            return self.timed_out(peer, SLACK)
        text = f"{self.me}: {self.operation}: within the node: {error}"
        if isinstance(error, (PeerTimeout, PeerDied)):
            return type(error)(text if peer is None else f"{text} [that is {self._layout.name(peer)}]", peer)
        return type(error)(text)

    def note(self, error: Error) -> Error:
        """Remember what a call of this rank has failed with; later calls raise it again."""
        if self._error is None and self._event is None:
            self._error = error
        return error
