"""Device memory for the tests, through HIP alone, so that it is the same on every platform.

A region has guard bytes before and after it and may begin at any address; reading it checks the guards.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from oracle import Array

from hipcomm.hip import call, hip

GUARD = 64  # bytes on either side
POISON = 0xA5
_UNTOUCHED = bytes([POISON]) * GUARD


class Arena:
    """Device memory that regions are cut from, one after the other, until :meth:`reset`."""

    def __init__(self, nbytes: int) -> None:
        self._memory = call("hipMalloc", nbytes)  # lives as long as the process
        self._base = int(self._memory.as_c_void_p().value)
        self._end = self._base + nbytes
        self._next = self._base

    @classmethod
    def at(cls, address: int, nbytes: int) -> Arena:
        """An arena over memory that somebody else has allocated, and frees."""
        arena = object.__new__(cls)
        arena._base, arena._end = address, address + nbytes
        arena.reset()
        return arena

    def reset(self) -> None:
        """Forget all regions; their memory is used again."""
        self._next = self._base

    def region(self, nbytes: int, misalignment: int = 0) -> Region:
        """A poisoned region whose address is *misalignment* bytes past a multiple of 256."""
        start = (self._next + GUARD + 255) // 256 * 256 + misalignment
        self._next = start + nbytes + GUARD
        assert self._next <= self._end, f"{nbytes} bytes do not fit into the rest of the arena"
        return Region(start, nbytes)


class Region:
    """*nbytes* of device memory at *address*."""

    def __init__(self, address: int, nbytes: int) -> None:
        self.address = address
        self.nbytes = nbytes
        _copy_in(address - GUARD, np.full(nbytes + 2 * GUARD, POISON, np.uint8))

    def put(self, data: Array, offset: int = 0) -> None:
        """Copy an array to the bytes from *offset* on."""
        assert offset >= 0 and offset + data.nbytes <= self.nbytes
        _copy_in(self.address + offset, data)

    def get(self, dtype: np.dtype[Any]) -> Array:
        """The region's contents. Raises AssertionError if a byte next to it has changed."""
        everything = _copy_out(self.address - GUARD, self.nbytes + 2 * GUARD)
        before, after = everything[:GUARD], everything[GUARD + self.nbytes :]
        assert before.tobytes() == _UNTOUCHED, "bytes before the region were overwritten"
        assert after.tobytes() == _UNTOUCHED, "bytes after the region were overwritten"
        return everything[GUARD : GUARD + self.nbytes].copy().view(dtype)


class DeviceArray:
    """An array in device memory that belongs to a region."""

    def __init__(self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.address = address
        self.shape = shape
        self.dtype = dtype

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.address, False), "version": 3}


_arena: Arena | None = None


def arena(nbytes: int = 256 << 20) -> Arena:
    """This process's arena, empty."""
    global _arena  # noqa: PLW0603  one allocation serves all tests of a process
    if _arena is None:
        _arena = Arena(nbytes)
    _arena.reset()
    return _arena


def _copy_in(address: int, data: Array) -> None:
    if data.nbytes:
        raw = np.ascontiguousarray(data).view(np.uint8)
        call(
            "hipMemcpy", ctypes.c_void_p(address), raw, raw.nbytes, hip().hipMemcpyKind.hipMemcpyHostToDevice
        )
        # from memory that is not pinned it may return before the data is there, where another stream reads it
        call("hipStreamSynchronize", None)


def _copy_out(address: int, nbytes: int) -> Array:
    raw = np.empty(nbytes, np.uint8)
    call("hipMemcpy", raw, ctypes.c_void_p(address), nbytes, hip().hipMemcpyKind.hipMemcpyDeviceToHost)
    return raw
