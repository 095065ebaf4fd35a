"""Regions: memory of all ranks that collectives may work on in place.

A region is mapped into every process and known to the C core under one number on all ranks. Symmetric
memory is made of regions (heap.py); foreign memory becomes one on request.
"""

from __future__ import annotations

from typing import Any

from hipcomm import _wire as wire
from hipcomm.core import check, ffi, lib
from hipcomm.errors import Error, InvalidArgument, PlatformError
from hipcomm.hip import call
from hipcomm.hip.device import Device, with_device
from hipcomm.memory.peers import Area, PeerMemory, address_range
from hipcomm.rendezvous.ranks import Ranks, unpack_each

_WHAT_CAN_BE = (
    "ordinary device memory (hipMalloc) can be registered; memory of pools and of virtual-memory allocators, "
    "managed memory and host memory cannot. Symmetric memory (Communicator.empty) needs no registration"
)


class Region:
    """One region. All its methods and its construction are collective.

    Attributes:
        address: where it begins in this rank's memory.
        nbytes: its length.
    """

    def __init__(self, ranks: Ranks, comm: Any, area: Area, problem: str, error: type[Error]) -> None:
        """Map the memory of all ranks and tell the core.

        Args:
            ranks: who takes part.
            comm: the core's communicator.
            area: this rank's memory.
            problem: why it cannot be a region; empty if it can.
            error: what to raise where that is so on some rank.

        Raises:
            Error: of the type *error*, the same on all ranks; no rank has the region then.
        """
        self.address = area.address
        self.nbytes = area.nbytes
        self._comm = comm
        self._peers = PeerMemory(ranks, wire.TAG_REGION, [area], problem, error)
        number = ffi.new("int *", -1)
        try:
            bases = ffi.new("void *[]", [ffi.cast("void *", base) for base in self._peers.addresses[0]])
            problem = ""
            try:
                check(lib.hipcommCommAddRegion(comm, bases, area.nbytes, number), comm)
            except Error as failure:
                problem = str(failure)
            tag = f"{wire.TAG_REGION}/{wire.STEP_NUMBER}"
            gathered = unpack_each(
                wire.Region, ranks.agree(tag, problem, wire.Region(number[0]).pack(), error)
            )
            self.number: int = number[0]
            if any(theirs != gathered[0] for theirs in gathered):
                raise InvalidArgument(
                    f"rank {ranks.rank}: the ranks have registered memory in different orders: their "
                    f"regions' numbers are {[theirs.number for theirs in gathered]}"
                )
        except BaseException:
            if number[0] >= 0:
                lib.hipcommCommRemoveRegion(comm, number[0])
            self._peers.close()
            raise

    def close_peers(self) -> None:
        """Unmap the peers' memory. Nothing that uses it may be running here."""
        check(lib.hipcommCommRemoveRegion(self._comm, self.number), self._comm)
        self._peers.close()


class Registrations:
    """The foreign memory that a communicator's user has registered."""

    def __init__(self, ranks: Ranks, comm: Any, device: Device) -> None:
        """None so far."""
        self.device = device
        self._ranks = ranks
        self._comm = comm
        self._regions: dict[int, Region] = {}

    @with_device
    def add(self, address: int, nbytes: int, problem: str = "") -> None:
        """Register memory. Collective; see :meth:`Communicator.register`.

        problem: what is wrong with this rank's arguments already; the others shall hear of it.
        """
        if not problem and (problem := self._problem_with(address, nbytes)):
            problem = (
                f"rank {self._ranks.rank}: register {address:#x} ({nbytes} bytes): {problem}. {_WHAT_CAN_BE}"
            )
        area = Area(f"registered memory at {address:#x}", address, nbytes)
        self._regions[address] = Region(self._ranks, self._comm, area, problem, InvalidArgument)

    def _problem_with(self, address: int, nbytes: int) -> str:
        if nbytes <= 0:
            return "there is nothing to register"
        try:
            base, size = address_range(address)
            # verifying the mapping overwrites the first bytes for a moment: nobody may be at work there
            call("hipDeviceSynchronize")
        except PlatformError as error:
            return f"it is not device memory ({error})"
        if address + nbytes > base + size:
            return f"the allocation that it lies in has only {base + size - address} bytes from there on"
        return ""

    @with_device
    def remove(self, address: int, problem: str = "") -> None:
        """Deregister what begins at an address. Collective; see :meth:`Communicator.deregister`.

        problem: as for :meth:`add`.
        """
        region = self._regions.get(address)
        if not problem and region is None:
            problem = f"rank {self._ranks.rank}: deregister: nothing registered begins at {address:#x}"
        number = wire.Region(region.number if region else -1).pack()
        gathered = self._ranks.agree(wire.TAG_DEREGISTER, problem, number, InvalidArgument)
        if any(theirs != gathered[0] for theirs in gathered):
            raise InvalidArgument(f"rank {self._ranks.rank}: deregister: the ranks name different memory")
        call("hipDeviceSynchronize")
        self._regions.pop(address).close_peers()
        self._ranks.all_gather(wire.TAG_DEREGISTERED, b"")  # now the memory may be freed

    def close_peers(self) -> None:
        """Unmap everything. Nothing that uses it may be running here."""
        while self._regions:
            self._regions.popitem()[1].close_peers()
