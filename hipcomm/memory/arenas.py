"""Cutting allocations from arenas: bookkeeping without any memory.

All ranks make the same calls in the same order, so all get the same cuts.
"""

from __future__ import annotations

from typing import NamedTuple

GRANULE = 512  # bytes; cuts begin and end at multiples of it
SMALLEST_ARENA = 2 << 20  # bytes; hipIpcGetMemHandle has refused smaller memory


class Cut(NamedTuple):
    """A part of an arena.

    Attributes:
        arena: the arena's number.
        offset: bytes from its beginning.
        nbytes: its length, a multiple of GRANULE.
    """

    arena: int
    offset: int
    nbytes: int


def arena_size(nbytes: int) -> int:
    """The size in bytes of a new arena that an allocation of *nbytes* fits into."""
    size = SMALLEST_ARENA
    while size < nbytes:
        size *= 2
    return size


class Arenas:
    """The arenas there are, and what is free in them."""

    def __init__(self) -> None:
        """No arenas."""
        self._sizes: dict[int, int] = {}
        self._free: dict[int, list[tuple[int, int]]] = {}  # by arena: (offset, bytes), by offset

    def add(self, number: int, nbytes: int) -> None:
        """A new arena, all of it free."""
        self._sizes[number] = nbytes
        self._free[number] = [(0, nbytes)]

    def remove(self, number: int) -> None:
        """Forget an arena. Raises KeyError where there is none of this number."""
        del self._sizes[number], self._free[number]

    def cut(self, nbytes: int) -> Cut | None:
        """The first free part that is large enough, of the lowest arena; None: there is none."""
        wanted = max(1, -(-nbytes // GRANULE)) * GRANULE
        for number in sorted(self._free):
            for index, (offset, size) in enumerate(self._free[number]):
                if size >= wanted:
                    rest = [(offset + wanted, size - wanted)] if size > wanted else []
                    self._free[number][index : index + 1] = rest
                    return Cut(number, offset, wanted)
        return None

    def give_back(self, cut: Cut) -> None:
        """Free a cut; it joins its free neighbours."""
        parts = sorted([*self._free[cut.arena], (cut.offset, cut.nbytes)])
        joined: list[tuple[int, int]] = []
        for offset, size in parts:
            if joined and sum(joined[-1]) == offset:
                joined[-1] = (joined[-1][0], joined[-1][1] + size)
            else:
                joined.append((offset, size))
        self._free[cut.arena] = joined

    def empty(self) -> list[int]:
        """The numbers of the arenas that nothing is cut from, in order."""
        return [number for number in sorted(self._sizes) if self._free[number] == [(0, self._sizes[number])]]
