"""What a call's buffers may be: arrays of any library, or addresses; and their element types."""

from __future__ import annotations

from typing import Any, NamedTuple


class Buffer(NamedTuple):
    """A caller's buffer.

    Attributes:
        address: a cffi ``void *`` or ``char[]``; the latter keeps its memory alive.
        count: elements.
        dtype: the core's number of the element type.
        order: None where the elements lie in C order; else what tells this memory order from others
            (:func:`hipcomm.buffers.layout.memory_order`).
        owner: what else has to live as long as the memory is used.
    """

    address: Any
    count: int  # type: ignore[assignment]  # tuple.count, which nobody calls
    dtype: int
    order: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    owner: Any = None
