"""The communicator's methods for memory that all ranks reach."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hipcomm.buffers.arrays import Buffer
from hipcomm.buffers.dtypes import CODES
from hipcomm.core import ffi
from hipcomm.errors import InvalidArgument
from hipcomm.memory.symmetric import SymmetricArray

if TYPE_CHECKING:
    from hipcomm.hip.device import Device
    from hipcomm.join.session import Session


class MemoryMethods:
    """A part of :class:`hipcomm.communicator.Communicator`.

    All its methods are collective and wait for the other ranks on the host: they belong neither on the path
    of every call nor into a graph capture, and no collective of this communicator may be under way in
    another thread.
    """

    device: Device

    if TYPE_CHECKING:

        def _living(self, operation: str) -> Session: ...
        def _say(self, operation: str, problem: str) -> str: ...
        def _buffer(
            self, obj: Any, name: str, operation: str, writable: bool, count: Any, dtype: Any
        ) -> Buffer: ...

    def empty(self, shape: int | Sequence[int], dtype: Any = "float32") -> SymmetricArray:
        """Make an array in symmetric memory, which collectives work on in place, copying nothing in or out.

        Collective. The contents are arbitrary.

        Args:
            shape: the extents, or one.
            dtype: as for the collectives.

        Raises:
            InvalidArgument: an argument is wrong on some rank, or the sizes in bytes differ (on all ranks).
            PlatformError: some rank has no memory left (on all ranks).
        """
        return self._living("empty").heap.allocate(shape, dtype)

    def device_memory(self) -> int:
        """Return the bytes of device memory that this rank has allocated, symmetric memory included."""
        session = self._living("device_memory")
        return session.memory_bytes + session.heap.nbytes

    def register(self, buf: Any, nbytes: int | None = None) -> None:
        """Let collectives work in place on memory that hipcomm has not allocated.

        Collective; the same number of bytes on every rank. Every call whose buffers lie in registered
        memory, at any offset, then copies nothing; all ranks have to use registered memory for such a
        call, or none. The memory must not be freed before it is deregistered.

        Args:
            buf: an array, or the address of device memory; it need not be the beginning of an allocation.
            nbytes: bytes, with an address.

        Raises:
            InvalidArgument: on all ranks: the memory of some rank cannot be shared (the message says why),
                is registered in part already, or the sizes differ.
        """
        registrations = self._living("register").registrations
        with self.device.current():
            registrations.add(*self._memory_of(buf, nbytes, "register"))

    def deregister(self, buf: Any) -> None:
        """Undo :meth:`register`. Collective. It waits for this rank's device; the memory may then be freed.

        Args:
            buf: the array that was registered, or its address.

        Raises:
            InvalidArgument: on all ranks: it is not registered on some rank, or the ranks name different
                memory.
        """
        registrations = self._living("deregister").registrations
        nbytes = 0 if isinstance(buf, (int, np.integer)) else None
        address, _, problem = self._memory_of(buf, nbytes, "deregister")
        with self.device.current():
            registrations.remove(address, problem)

    def _memory_of(self, buf: Any, nbytes: Any, operation: str) -> tuple[int, int, str]:
        """Address and bytes of an array, or as given; and what is wrong with them, for all ranks to hear."""
        try:
            if nbytes is not None:
                return operator.index(buf), operator.index(nbytes), ""
            buffer = self._buffer(buf, "buf", operation, False, None, None)
        except InvalidArgument as error:
            return 0, 0, str(error)
        except TypeError as error:
            return 0, 0, self._say(operation, f"buf {buf!r} of {nbytes!r} bytes: {error}")
        return _address(buffer), buffer.count * _itemsize(buffer), ""

    def cupy_allocator(self, nbytes: int) -> Any:
        """Allocate symmetric memory for CuPy: ``cupy.cuda.set_allocator(comm.cupy_allocator)``.

        Collective by contract: while it is set, all ranks make the same CuPy allocations in the same
        order. Each waits for the others; ``cupy.cuda.MemoryPool(comm.cupy_allocator).malloc`` asks less
        often, and arrays inside its blocks are symmetric too. Memory that CuPy lets go is used again once
        all ranks have let it go.

        Args:
            nbytes: bytes.

        Returns:
            A ``cupy.cuda.MemoryPointer``.
        """
        import cupy

        memory = self.empty(nbytes, np.uint8)
        unowned = cupy.cuda.UnownedMemory(memory.data_ptr, nbytes, memory, self.device.ordinal)
        return cupy.cuda.MemoryPointer(unowned, 0)


def _address(buffer: Buffer) -> int:
    return int(ffi.cast("uintptr_t", buffer.address))


def _itemsize(buffer: Buffer) -> int:
    return next(dtype.itemsize for dtype, code in CODES.items() if code == buffer.dtype)
