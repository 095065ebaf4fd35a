"""A communicator's heap: the memory that symmetric arrays are cut from.

It is a few large arenas, each a power of two times 2 MiB with one handle: a process that opens many handles
has been seen to get wrong mappings. All ranks allocate and free in the same order, so every rank cuts at the
same offsets; what they exchange is only whether they agree.
"""

from __future__ import annotations

import operator
import weakref
from array import array
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from hipcomm import _wire as wire
from hipcomm.buffers.dtypes import resolve
from hipcomm.errors import Error, InvalidArgument, PlatformError
from hipcomm.hip import call
from hipcomm.hip.device import Device, with_device
from hipcomm.memory.arenas import Arenas, Cut, arena_size
from hipcomm.memory.peers import Area
from hipcomm.memory.regions import Region
from hipcomm.memory.symmetric import SymmetricArray
from hipcomm.rendezvous.ranks import Ranks, unpack_each

_MOST_BYTES = 1 << 46
_MOST_GARBAGE = wire.MAX_DATA // 8 - 2  # that one exchange tells of


class _Arena:
    """One arena: this rank's memory and the region of all ranks'."""

    def __init__(self, ranks: Ranks, comm: Any, nbytes: int) -> None:
        self.nbytes = nbytes
        self._pointer: Any = None
        self.address = 0
        problem = ""
        try:
            self._pointer = call("hipMalloc", nbytes)
            self.address = int(self._pointer.as_c_void_p().value)
        except Error as error:
            problem = f"rank {ranks.rank}: symmetric memory: {error}"
        try:
            area = Area("symmetric memory", self.address, nbytes)
            self.region = Region(ranks, comm, area, problem, PlatformError)
        except BaseException:
            self.free()
            raise

    def free(self) -> None:
        if self._pointer is not None:
            call("hipFree", self._pointer)
            self._pointer = None


class Heap:
    """A communicator's symmetric memory. :meth:`allocate` and :meth:`free` are collective.

    Attributes:
        rank: this rank.
        device: where it is.
        dlpack_device: device type and ordinal.
        garbage: serial numbers of arrays that have become garbage on this rank since the last allocation.
    """

    def __init__(self, ranks: Ranks, comm: Any, device: Device, dlpack_type: int) -> None:
        """An empty heap; memory is allocated when it is first asked for."""
        self.rank = ranks.rank
        self.device = device
        self.dlpack_device = (dlpack_type, device.ordinal)
        self.garbage: deque[int] = deque()
        self._dead: set[int] = set()  # of those, and before, what is not garbage on all ranks
        self._ranks = ranks
        self._comm = comm
        self._arenas: dict[int, _Arena] = {}
        self._bookkeeping = Arenas()
        self._cuts: dict[int, Cut] = {}  # by serial number
        self._arrays: weakref.WeakSet[SymmetricArray] = weakref.WeakSet()
        self._is_closed = False
        self._next_serial = 0
        self._next_arena = 0

    @with_device
    def allocate(self, shape: Any, dtype: Any) -> SymmetricArray:
        """Make an array; see :meth:`Communicator.empty`."""
        extents, resolved, problem = self._check(shape, dtype)
        nbytes = 0 if problem else int(np.prod(extents, dtype=object)) * resolved.itemsize
        self._agree_on_allocation(nbytes, problem)
        cut = self._bookkeeping.cut(nbytes)
        if cut is None:
            self._add_arena(arena_size(nbytes))
            cut = self._bookkeeping.cut(nbytes)
            assert cut is not None
        serial = self._next_serial
        self._next_serial += 1
        self._cuts[serial] = cut
        address = self._arenas[cut.arena].address + cut.offset
        array = SymmetricArray(self, serial, address, extents, resolved)
        self._arrays.add(array)
        return array

    def _check(self, shape: Any, dtype: Any) -> tuple[tuple[int, ...], np.dtype[Any], str]:
        resolved = np.dtype(np.uint8)
        try:
            extents = tuple(operator.index(n) for n in (shape if isinstance(shape, Sequence) else (shape,)))
            resolved = resolve(dtype)
            if any(n < 0 for n in extents) or int(np.prod(extents, dtype=object)) > _MOST_BYTES:
                raise InvalidArgument(f"shape {shape!r} is not possible")
        except (InvalidArgument, TypeError, ValueError) as error:
            return (), resolved, f"rank {self.rank}: empty: {error}"
        return extents, resolved, ""

    def _agree_on_allocation(self, nbytes: int, problem: str) -> None:
        """Compare sizes, and take back what is garbage on all ranks."""
        # one by one: the garbage collector may add some at any moment, and a loop over them would not bear it
        while self.garbage:
            self._dead.add(self.garbage.popleft())
        dead = sorted(self._dead)[:_MOST_GARBAGE]  # the rest at a later allocation
        if dead:
            call("hipDeviceSynchronize")  # what is enqueued here may still use it
        mine = wire.Allocation(nbytes).pack() + array("Q", dead).tobytes()
        gathered = self._ranks.agree(wire.TAG_EMPTY, problem, mine, InvalidArgument)
        fixed = wire.Allocation.size()
        asked = unpack_each(wire.Allocation, [theirs[:fixed] for theirs in gathered])
        for peer, theirs in enumerate(asked):
            if theirs != asked[0]:
                raise InvalidArgument(
                    f"rank {self.rank}: empty: rank {peer} asks for {theirs.nbytes} bytes and rank 0 for "
                    f"{asked[0].nbytes}; symmetric memory has one size on all ranks"
                )
        everywhere = set(dead)
        for message in gathered:
            everywhere &= set(memoryview(message)[fixed : len(message) // 8 * 8].cast("Q"))
        for serial in sorted(everywhere):
            self._dead.remove(serial)
            self._take_back(serial)

    @with_device
    def free(self, array: SymmetricArray) -> None:
        """Take an array's memory back; see :meth:`SymmetricArray.free`."""
        if self._is_closed:
            raise InvalidArgument(f"rank {self.rank}: free: the communicator is closed")
        call("hipDeviceSynchronize")
        mine = wire.Free(array._serial).pack()
        gathered = unpack_each(wire.Free, self._ranks.all_gather(wire.TAG_FREE, mine))
        if any(theirs != gathered[0] for theirs in gathered):
            order = [theirs.serial for theirs in gathered]
            raise InvalidArgument(
                f"rank {self.rank}: free: the ranks free different arrays: allocations {order}, by rank"
            )
        self._take_back(array._serial)
        self._arrays.discard(array)

    def _take_back(self, serial: int) -> None:
        self._bookkeeping.give_back(self._cuts.pop(serial))
        # one empty arena stays, for a program that allocates and frees in turns
        for number in self._bookkeeping.empty()[1:]:
            self._remove_arena(number)

    def _add_arena(self, nbytes: int) -> None:
        arena = _Arena(self._ranks, self._comm, nbytes)
        self._arenas[self._next_arena] = arena
        self._bookkeeping.add(self._next_arena, nbytes)
        self._next_arena += 1

    def _remove_arena(self, number: int) -> None:
        """No kernel uses it: the rank that freed the last array has waited for its device."""
        arena = self._arenas.pop(number)
        self._bookkeeping.remove(number)
        arena.region.close_peers()
        self._ranks.all_gather(wire.TAG_UNMAPPED, b"")
        arena.free()

    @property
    def nbytes(self) -> int:
        """Device memory that this rank has allocated for it."""
        return sum(arena.nbytes for arena in self._arenas.values())

    # ---- the end, step by step with the communicator's other memory ------------------------------------

    def close_peers(self) -> None:
        """Unmap the peers' arenas. Nothing that uses them may be running here, or comes later."""
        self._is_closed = True
        for each in self._arrays:
            each._forget("the communicator is closed")
        for arena in self._arenas.values():
            arena.region.close_peers()

    def free_all(self) -> None:
        """Free this rank's arenas. No peer may have them mapped any more."""
        while self._arenas:
            self._arenas.popitem()[1].free()
