"""What is measured: the collectives, how large their buffers are, and what bus bandwidth means for each.

Sizes follow nccl-tests: a message's size is that of the larger of the two buffers of one rank.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from hipcomm.plan import TABLE_OF_OPERATIONS, Operation


@dataclass(frozen=True)
class Op:
    """One operation, which all ranks call.

    Attributes:
        name: as the Python API spells it, with a _v where parts are unequal; `send_recv`: every rank sends
            to the next one and receives from the one before.
        bus_factor: by world size, what turns size / time into the bandwidth that every link must carry,
            whatever the algorithm. A factor of 0 (a world of one) means that no link is used.
    """

    name: str
    bus_factor: Callable[[int], float]

    @property
    def _row(self) -> Operation:
        return TABLE_OF_OPERATIONS["send" if self.name == "send_recv" else self.name]

    @property
    def divided(self) -> bool:
        """Whether a message consists of one part per rank."""
        return "Each" in (self._row.sent, self._row.received)

    @property
    def unequal(self) -> bool:
        """Whether the parts are of different sizes."""
        return self.name.endswith("_v")

    @property
    def send_shares(self) -> bool:
        """Whether the send buffer holds one part, and not the whole message."""
        return self.divided and self._row.sent == "One"

    @property
    def recv_shares(self) -> bool:
        """Whether the receive buffer does."""
        return self.divided and self._row.received == "One"

    @property
    def reduces(self) -> bool:
        """Whether it computes, so that the reduction operation matters."""
        return self._row.reduces

    @property
    def has_in_place(self) -> bool:
        """Whether one buffer can be (a part of) the other."""
        return self._row.in_place != "Never"

    @property
    def moves(self) -> bool:
        """Whether there is data at all."""
        return self._row.bytes != "None"

    def parts(self, whole: int, world_size: int) -> list[int]:
        """Return the elements of each rank's part of a message of `whole` elements; unequal ones grow."""
        if not self.unequal:
            return [whole // world_size] * world_size
        triangle = [rank * (rank + 1) // 2 for rank in range(world_size + 1)]
        ends = [whole * at // triangle[-1] for at in triangle]
        return [end - begin for begin, end in pairwise(ends)]

    def pair(self, parts: list[int], sender: int, receiver: int) -> int:
        """Return the elements of an all_to_all from one rank to another; all ranks' totals are the same."""
        return parts[(sender + receiver) % len(parts)]

    def elements(self, size: int, itemsize: int, world_size: int) -> tuple[int, int]:
        """Return how many elements the (send, receive) buffer of a root has for a message of `size` bytes.

        Where `size` does not come out even, it is the largest smaller message that does.
        """
        whole = size // itemsize if self.moves else 0
        if self.divided and not self.unequal:
            whole = whole // world_size * world_size
        share = max(self.parts(whole, world_size))
        return (share if self.send_shares else whole), (share if self.recv_shares else whole)

    def elements_of(self, size: int, itemsize: int, rank: int, world_size: int, root: int) -> tuple[int, int]:
        """Return those of a rank: a buffer that only the root's call uses has none elsewhere."""
        send, recv = self.elements(size, itemsize, world_size)
        if self.unequal and self.send_shares:
            send = self.parts(recv, world_size)[rank]
        if rank != root and self._row.root == "Receives":
            recv = 0
        if rank != root and self._row.root == "Sends" and self.divided:  # in a broadcast both are the message
            send = 0
        return send, recv


def _all_but_own(world_size: int) -> float:
    return (world_size - 1) / world_size


def _one(world_size: int) -> float:
    return float(world_size > 1)


OPS = {
    op.name: op
    for op in (
        Op("all_reduce", lambda n: 2 * _all_but_own(n)),
        Op("all_gather", _all_but_own),
        Op("reduce_scatter", _all_but_own),
        Op("all_to_all", _all_but_own),
        Op("broadcast", _one),
        Op("reduce", _one),
        Op("gather", _all_but_own),
        Op("scatter", _all_but_own),
        Op("send_recv", _one),
        Op("all_gather_v", _all_but_own),
        Op("all_to_all_v", _all_but_own),
        Op("barrier", lambda n: 0.0),
    )
}


@dataclass(frozen=True)
class Call:
    """One kind of call, as the contestants have to make it; `dtype` and `redop` are names.

    Attributes:
        root: of those operations that have one.
        shape: of the larger buffer; empty: it is flat.
        dim: of that, along which parts are put together.
    """

    op: Op
    dtype: str
    redop: str
    in_place: bool
    root: int = 0
    shape: tuple[int, ...] = ()
    dim: int = 0

    @property
    def rows(self) -> int:
        """Of how many rows a part consists that do not follow each other in the whole; 1: they all do."""
        return prod(self.shape[: self.dim])


def bandwidths(op: Op, size: int, seconds: float, world_size: int) -> tuple[float, float]:
    """Return (algorithm bandwidth, bus bandwidth) in GB/s (10^9 bytes) of one call with `size` bytes."""
    algorithm = size / seconds / 1e9
    return algorithm, algorithm * op.bus_factor(world_size)
