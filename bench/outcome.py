"""What a rank receives in a collective: parts of the ranks' inputs, and what these are combined to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from hipcomm_bench.memory import Array
from hipcomm_bench.ops import Call, Op

_COMBINE = {"sum": np.add, "avg": np.add, "max": np.maximum, "min": np.minimum, "prod": np.multiply}


class Piece(NamedTuple):
    """A part of a receive buffer.

    Attributes:
        source: the rank whose input it is; None: it is of all ranks' inputs, combined.
        start: where it begins there, in elements.
        length: elements.
    """

    source: int | None
    start: int
    length: int


def pieces(op: Op, rank: int, world_size: int, count: int, root: int = 0, rows: int = 1) -> Iterator[Piece]:
    """Yield what the receive buffer of *rank*, of *count* elements, is made of, in its order.

    *rows*: see hipcomm_bench.ops.Call.
    """
    ranks = range(world_size)
    if op.name == "reduce_scatter":
        row = count // rows
        yield from (Piece(None, (number * world_size + rank) * row, row) for number in range(rows))
    elif op.reduces:
        yield Piece(None, 0, count)
    elif op.name == "broadcast":
        yield Piece(root, 0, count)
    elif op.name == "send_recv":
        yield Piece((rank - 1) % world_size, 0, count)
    elif op.name == "scatter":
        yield Piece(root, rank * count, count)
    elif op.send_shares:  # one of the gathers
        parts = op.parts(count, world_size)
        for number in range(rows):
            yield from (Piece(peer, number * parts[peer] // rows, parts[peer] // rows) for peer in ranks)
    elif op.name.startswith("all_to_all"):
        parts = op.parts(count, world_size)
        for peer in ranks:
            before = sum(op.pair(parts, peer, other) for other in range(rank))
            yield Piece(peer, before, op.pair(parts, peer, rank))


Part = tuple[int, int, int]  # the other rank, where it begins in this rank's buffer, elements


def transfers(call: Call, whole: int, rank: int, world_size: int) -> tuple[list[Part], list[Part]]:
    """Return what a rank sends and what it receives, for libraries that have only that for a call.

    Args:
        call: one that only moves data; whole: elements of its largest buffer.
        rank: which rank's; world_size: of how many.
    """
    sent: list[Part] = []
    received: list[Part] = []
    for peer in range(world_size):
        count, position = call.op.elements_of(whole, 1, peer, world_size, call.root)[1], 0
        for source, start, length in pieces(call.op, peer, world_size, count, call.root):
            if source == rank and length:
                sent.append((peer, start, length))
            if source is not None and peer == rank and length:
                received.append((source, position, length))
            position += length
    return sent, received


def combine(inputs: list[Array], redop: str, kind: np.dtype[Any]) -> Array:
    """Return what the ranks' inputs, int64 and small enough to be exact, are combined to in a dtype."""
    total = np.asarray(_COMBINE[redop].reduce(np.stack(inputs), axis=0))
    if redop == "avg":
        if np.issubdtype(kind, np.integer):  # the sum wraps before it is divided, toward zero
            total = total.astype(kind).astype(np.int64)
        total = np.sign(total) * (np.abs(total) // len(inputs))
    return total.astype(kind)
