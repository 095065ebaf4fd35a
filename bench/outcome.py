"""What a rank receives in a collective: parts of the ranks' inputs, and what these are combined to."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hipcomm_bench.memory import Array
from hipcomm_bench.ops import Op

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


def pieces(op: Op, rank: int, world_size: int, count: int, root: int = 0) -> list[Piece]:
    """Return what the receive buffer of *rank*, of *count* elements, is made of, in its order."""
    if op.reduces:
        return [Piece(None, rank * count if op.recv_shares else 0, count)]
    if op.name == "broadcast":
        return [Piece(root, 0, count)]
    share = count // world_size
    return [Piece(peer, 0 if op.send_shares else rank * share, share) for peer in range(world_size)]


def combine(inputs: list[Array], redop: str, kind: np.dtype[Any]) -> Array:
    """Return what the ranks' inputs, int64 and small enough to be exact, are combined to in a dtype."""
    total = np.asarray(_COMBINE[redop].reduce(np.stack(inputs), axis=0))
    if redop == "avg":
        if np.issubdtype(kind, np.integer):  # the sum wraps before it is divided, toward zero
            total = total.astype(kind).astype(np.int64)
        total = np.sign(total) * (np.abs(total) // len(inputs))
    return total.astype(kind)
