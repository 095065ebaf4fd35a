"""What is measured: the collectives, how large their buffers are, and what bus bandwidth means for each.

Sizes follow nccl-tests: a message's size is that of the larger of the two buffers of one rank.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hipcomm.plan import TABLE_OF_OPERATIONS


@dataclass(frozen=True)
class Op:
    """One collective operation.

    Attributes:
        name: as the Python API spells it.
        bus_factor: by world size, what turns size / time into the bandwidth that every link must carry,
            whatever the algorithm. A factor of 0 (a world of one) means that no link is used.
    """

    name: str
    bus_factor: Callable[[int], float]

    @property
    def divided(self) -> bool:
        """Whether a message consists of one share per rank."""
        row = TABLE_OF_OPERATIONS[self.name]
        return "Each" in (row.sent, row.received)

    @property
    def send_shares(self) -> bool:
        """Whether the send buffer holds one share, and not the whole message."""
        return self.divided and TABLE_OF_OPERATIONS[self.name].sent == "One"

    @property
    def recv_shares(self) -> bool:
        """Whether the receive buffer does."""
        return self.divided and TABLE_OF_OPERATIONS[self.name].received == "One"

    @property
    def reduces(self) -> bool:
        """Whether it computes, so that the reduction operation matters."""
        return TABLE_OF_OPERATIONS[self.name].reduces

    def elements(self, size: int, itemsize: int, world_size: int) -> tuple[int, int]:
        """Return how many elements the (send, receive) buffer of one rank has for a message of `size` bytes.

        Where `size` does not come out even, it is the largest smaller message that does.
        """
        whole = size // itemsize
        share = whole // world_size
        if self.divided:
            whole = share * world_size
        return (share if self.send_shares else whole), (share if self.recv_shares else whole)


def _all_but_own(world_size: int) -> float:
    return (world_size - 1) / world_size


OPS = {
    op.name: op
    for op in (
        Op("all_reduce", lambda n: 2 * _all_but_own(n)),
        Op("all_gather", _all_but_own),
        Op("reduce_scatter", _all_but_own),
        Op("all_to_all", _all_but_own),
        Op("broadcast", lambda n: float(n > 1)),
    )
}


@dataclass(frozen=True)
class Call:
    """One kind of call, as the contestants have to make it; `dtype` and `redop` are names."""

    op: Op
    dtype: str
    redop: str
    in_place: bool


def bandwidths(op: Op, size: int, seconds: float, world_size: int) -> tuple[float, float]:
    """Return (algorithm bandwidth, bus bandwidth) in GB/s (10^9 bytes) of one call with `size` bytes."""
    algorithm = size / seconds / 1e9
    return algorithm, algorithm * op.bus_factor(world_size)
