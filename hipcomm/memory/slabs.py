"""What a communicator itself allocates: two slabs of device memory, and the status page."""

from __future__ import annotations

from typing import Any

from hipcomm import _wire as wire
from hipcomm.core import ffi
from hipcomm.errors import Error
from hipcomm.hip import call, hip
from hipcomm.memory.peers import Area, PeerMemory
from hipcomm.rendezvous.ranks import Ranks

_UNCACHED = 0x3  # hipDeviceMallocUncached; hip-python has no name for it


class Slabs:
    """The control and staging slabs of all ranks (hipcomm/abi/slabs.h says what is in them).

    Attributes:
        control: cffi ``void *[world]``, as mapped in this process.
        staging: likewise.
        bytes: device memory that this rank has allocated.
    """

    def __init__(self, ranks: Ranks, layout: Any) -> None:
        """Allocate this rank's slabs as the core's ``hipcommLayout`` says, and map the peers'. Collective.

        Raises:
            PlatformError: on all ranks, naming the first rank for which something failed.
        """
        self.bytes = 0
        self._own: list[Any] = []
        self._peers: PeerMemory | None = None
        areas, problem = [], ""
        try:
            areas.append(self._allocate("control slab", layout.control_bytes, uncached=True))
            areas.append(self._allocate("staging slab", layout.staging_bytes, bool(layout.staging_uncached)))
        except Error as error:
            problem = f"rank {ranks.rank}: {error}"
        try:
            self._peers = PeerMemory(ranks, wire.TAG_SLABS, areas, problem)
        except BaseException:
            self.free()  # nobody has got a communicator, so nobody's kernels write here
            raise
        self.control = ffi.new(
            "void *[]", [ffi.cast("void *", address) for address in self._peers.addresses[0]]
        )
        self.staging = ffi.new(
            "void *[]", [ffi.cast("void *", address) for address in self._peers.addresses[1]]
        )

    def _allocate(self, name: str, size: int, uncached: bool) -> Area:
        pointer = call("hipExtMallocWithFlags", size, _UNCACHED) if uncached else call("hipMalloc", size)
        self._own.append(pointer)
        self.bytes += size
        return Area(name, int(pointer.as_c_void_p().value), size)

    def close_peers(self) -> None:
        """Unmap the peers' slabs. Nothing that uses them may be running here."""
        if self._peers is not None:
            self._peers.close()

    def free(self) -> None:
        """Free this rank's slabs. No peer may have them mapped any more."""
        while self._own:
            call("hipFree", self._own.pop())


class StatusPage:
    """Pinned, mapped host memory through which host and kernels tell each other of failures.

    Attributes:
        host: cffi pointer for the host.
        device: cffi pointer for the kernels.
    """

    def __init__(self, size: int) -> None:
        """Allocate *size* bytes."""
        module = hip()
        self._pointer = call("hipHostMalloc", size, module.hipHostMallocMapped | module.hipHostMallocPortable)
        self.host = _pointer(self._pointer)
        self.device = _pointer(call("hipHostGetDevicePointer", self._pointer, 0))

    def free(self) -> None:
        """Free the page. No kernel may use it any more."""
        call("hipHostFree", self._pointer)


def _pointer(pointer: Any) -> Any:
    return ffi.cast("void *", int(pointer.as_c_void_p().value))
