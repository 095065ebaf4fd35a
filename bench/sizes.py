"""Message sizes: reading them from the command line, stepping through a range, writing them for people."""

from __future__ import annotations

import re

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def parse_size(text: str) -> int:
    """Return the bytes that `text` names: a whole number with an optional K, M or G (powers of 1024).

    Raises:
        ValueError: `text` is something else, zero included.
    """
    match = re.fullmatch(r"(\d+)\s*([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None or int(match[1]) == 0:
        raise ValueError(f"{text!r} is not a size; write bytes, or a number with K, M or G, such as 64K")
    return int(match[1]) * _UNITS[match[2].upper()]


def format_size(size: int) -> str:
    """Return `size` bytes in the largest unit that divides it, e.g. ``64 KiB``; the inverse of parse_size."""
    for unit in ("G", "M", "K"):
        if size % _UNITS[unit] == 0 and size > 0:
            return f"{size // _UNITS[unit]} {unit}iB"
    return f"{size} B"


def size_range(begin: int, end: int, factor: int, step: int | None = None) -> list[int]:
    """Return begin, begin * factor, ... up to and including `end`, in bytes; begin + step, ... with a step.

    Raises:
        ValueError: the range is empty, or the factor is below 2.
    """
    if factor < 2:
        raise ValueError(f"the step factor is {factor}; it must be 2 or more")
    if not 0 < begin <= end:
        raise ValueError(f"no sizes from {begin} to {end} bytes")
    sizes = []
    size = begin
    while size <= end:
        sizes.append(size)
        size = size * factor if step is None else size + step
    return sizes
