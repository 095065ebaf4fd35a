"""Where the elements of an array lie."""

from __future__ import annotations

import math
import zlib
from typing import Any, NamedTuple

import numpy as np


class View(NamedTuple):
    """An array of any library, as its memory.

    Attributes:
        address: of the first element.
        shape: the extents.
        strides: bytes from an element to the next, by dimension; None: C-contiguous.
        dtype: of the elements.
        is_read_only: whether writing to it is forbidden.
        on_host: whether it is host memory; None: its library does not say, and a device can reach it.
        owner: what has to live as long as the memory is used.
    """

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    dtype: np.dtype[Any]
    is_read_only: bool = False
    on_host: bool | None = True
    owner: Any = None

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def is_c_contiguous(self) -> bool:
        """Whether the elements follow one another in the order of their indices."""
        return self.strides is None or is_c_contiguous(self.shape, self.strides, self.dtype.itemsize)


def is_c_contiguous(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> bool:
    """Whether elements follow one another in the order of their indices; strides in bytes."""
    if 0 in shape:
        return True
    expected = itemsize
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent != 1 and stride != expected:
            return False
        expected *= extent
    return True


def memory_order(
    shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """What tells the memory order of a dense array from others; None: there are gaps, or elements overlap.

    Arrays with equal values lie in memory in the same order.

    Args:
        shape: the extents.
        strides: in bytes; not those of C order.
        itemsize: bytes of an element.

    Returns:
        The extents other than 1, and these dimensions from the one that varies slowest in memory on.
    """
    extents = [(extent, stride) for extent, stride in zip(shape, strides, strict=True) if extent != 1]
    slowest_first = sorted(range(len(extents)), key=lambda axis: -extents[axis][1])
    expected = itemsize
    for axis in reversed(slowest_first):
        extent, stride = extents[axis]
        if stride != expected:
            return None
        expected *= extent
    return tuple(extent for extent, _ in extents), tuple(slowest_first)


def order_word(order: tuple[tuple[int, ...], tuple[int, ...]]) -> int:
    """A memory order in 64 bits, as hipcommCommSetMemoryOrder() takes it; not 0."""
    digits = 0
    for axis in order[1][:8]:
        digits = digits << 4 | (axis & 15)
    return zlib.crc32(repr(order).encode()) << 32 | digits or 1
