"""Messages from one rank to one other: send and recv."""

from __future__ import annotations

from typing import Any

import numpy as np

from hipcomm.calls import Calls
from hipcomm.core import lib
from hipcomm.errors import InvalidArgument


class PointToPoint(Calls):
    """Methods of :class:`~hipcomm.communicator.Communicator`, whose documentation holds for them.

    The n-th message that a rank sends to another is what that one's n-th :meth:`recv` from it gets. No other
    rank takes part, and messages keep no order with those of other pairs. Stream order holds as ever: a call
    waits for the calls before it on its stream, collectives included.

    A short message (``comm.plan("send", nbytes).algorithm == "one_shot"``) is sent without waiting for its
    recv if fewer than 8 earlier messages to that rank are still to be received. Any other send may wait for
    its recv, or for those of earlier messages: two ranks that both send a long message and receive
    afterwards wait for each other until the time-out. One of them has to receive first, or both call
    all_to_all.

    A captured send or recv takes the number of its message when it runs.
    """

    def send(
        self, buf: Any, dest: int, *, count: int | None = None, dtype: Any = None, stream: Any = None
    ) -> None:
        """Send the elements of *buf* to one rank.

        Args:
            buf: the elements, any shape; none at all are a message too. They may be changed as soon as the
                stream has passed the call.
            dest: the rank that receives; not this one.
            count: elements, where an address is given.
            dtype: likewise.
            stream: see the class.

        Raises:
            InvalidArgument: see the class; also when *dest* is no other rank.
            CallMismatch: the receiver expects another number of bytes; here or at a later call, for a short
                message may be gone by then.
        """
        buffer = self._buffer(buf, "buf", "send", False, count, dtype)
        self._run(
            lib.hipcommSend,
            "send",
            stream,
            buffer.address,
            buffer.count,
            buffer.dtype,
            self._peer(dest, "dest", "send"),
        )

    def recv(
        self, buf: Any, source: int, *, count: int | None = None, dtype: Any = None, stream: Any = None
    ) -> None:
        """Receive the next message of one rank into *buf*.

        Args:
            buf: room for the message, which must have exactly as many bytes.
            source: the rank that sends; not this one.
            count: elements, where an address is given.
            dtype: likewise.
            stream: see the class.

        Raises:
            InvalidArgument: see the class; also when *source* is no other rank.
            CallMismatch: the message is of another number of bytes.
        """
        buffer = self._buffer(buf, "buf", "recv", True, count, dtype)
        self._run(
            lib.hipcommRecv,
            "recv",
            stream,
            buffer.address,
            buffer.count,
            buffer.dtype,
            self._peer(source, "source", "recv"),
        )

    def _peer(self, peer: Any, name: str, operation: str) -> int:
        """*peer* as an int; the core says whether it is a rank. Raises InvalidArgument."""
        is_integer = isinstance(peer, (int, np.integer)) and not isinstance(peer, bool)
        if not is_integer or not -1 << 31 <= peer < 1 << 31:
            raise InvalidArgument(self._say(operation, f"{name}={peer!r} is not a rank"))
        return int(peer)
