"""What carries bytes from node to node: an engine that is already there. It moves bytes and never adds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from hipcomm.nodes.model import Link

COLLECTIVES, MESSAGES = 0, 1  # channels


class Transfer(NamedTuple):
    """Bytes that go to one rank, or come from one.

    Attributes:
        peer: the rank, by its number in the communicator.
        address: of the first byte.
        nbytes: how many; at least 1.
    """

    peer: int
    address: int
    nbytes: int


class Carrier(Protocol):
    """Moves bytes between the ranks of one communicator. Called by one thread at a time.

    Attributes:
        name: as HIPCOMM_CARRIER has it.
        link: what an exchange costs; the world sets it to what it has measured.
        is_stream_ordered: whether an exchange is enqueued on the stream, and can be captured; else it has
            happened on return, with host memory.
    """

    name: str
    link: Link
    is_stream_ordered: bool

    def exchange(
        self, sends: Sequence[Transfer], receives: Sequence[Transfer], stream: Any, channel: int = COLLECTIVES
    ) -> None:
        """Send and receive, all at once; ordered after what the stream holds, and before what follows there.

        Between two ranks and on one channel the n-th transfer sent is the n-th received, of as many bytes.
        *stream*: a cffi pointer. No memory of it is touched after an error.

        Raises:
            PeerDied, PeerTimeout: as of a collective, from *failures*, in bounded time.
            PlatformError: the engine has failed.
        """

    def abort(self) -> None:
        """Make whatever waits give up. From any thread; does not wait."""

    def close(self) -> None:
        """Let go of what belongs to this communicator. No call is under way; waits for no other rank."""
