"""What a call's buffers may be: arrays of any library, or addresses; and their element types."""

from __future__ import annotations

from typing import Any, NamedTuple


class Buffer(NamedTuple):
    """A caller's buffer.

    Attributes:
        address: a cffi ``void *`` or ``char[]``; it keeps a NumPy array's memory alive.
        count: elements.
        dtype: the core's number of the element type.
    """

    address: Any
    count: int  # type: ignore[assignment]  # tuple.count, which nobody calls
    dtype: int
