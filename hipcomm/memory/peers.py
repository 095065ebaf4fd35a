"""Memory of all ranks, mapped into each of them: export, exchange, open, verify.

A rank in another process is reached through an IPC handle, one in this process (ranks as threads) by
its plain address: a handle cannot be opened where it was made. An allocation is exported by its base, and
what lies inside it by an offset.

Every mapping is verified before it is used: each rank writes a pattern into its own memory and all others
read it. A mapping that is wrong but "successful" has been seen where many handles are open.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import threading
from typing import NamedTuple

from hipcomm import _wire as wire
from hipcomm.errors import Error, PlatformError
from hipcomm.hip import call, hip
from hipcomm.rendezvous.ranks import Ranks, unpack_rows

_PROCESS = secrets.token_bytes(8)  # with the process's number: a fork has its parent's bytes
_HANDLE_BYTES = 64  # hipIpcMemHandle_t


class Area(NamedTuple):
    """A part of this rank's device memory that the peers shall reach.

    Attributes:
        name: what it is, for messages.
        address: where it begins.
        nbytes: its length; the same on all ranks.
    """

    name: str
    address: int
    nbytes: int


class PeerMemory:
    """The same areas of all ranks, as mapped in this process.

    Attributes:
        addresses: ``addresses[area][rank]``, the area of that rank as mapped here.
    """

    def __init__(
        self, ranks: Ranks, tag: str, areas: list[Area], problem: str = "", error: type[Error] = PlatformError
    ) -> None:
        """Exchange, open and verify. Collective; all ranks pass the same number of areas.

        The first bytes of an area are overwritten for a moment, and put back.

        Args:
            ranks: who takes part.
            tag: names the exchange.
            areas: this rank's.
            problem: what keeps this rank from taking part; empty if nothing.
            error: what to raise.

        Raises:
            Error: of the type *error*, on all ranks, naming the first rank for which something failed.
        """
        self._ranks = ranks
        self._error = error
        self._opened: list[bytes] = []
        self.addresses: list[list[int]] = [[] for _ in areas]
        exports, problem = (b"", problem) if problem else self._export_all(areas)
        try:
            gathered = ranks.agree(f"{tag}/{wire.STEP_HANDLES}", problem, exports, error)
            problem = self._open_all(areas, unpack_rows(wire.Export, gathered, len(areas)))
            self._verify_all(tag, areas, problem)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Unmap the peers' memory. Nothing that uses it may be running here."""
        while self._opened:
            _mappings.close(self._opened.pop())

    # ---- export and open ---------------------------------------------------------------------------------

    def _export_all(self, areas: list[Area]) -> tuple[bytes, str]:
        exports = []
        for area in areas:
            try:
                exports.append(self._export(area).pack())
            except Error as error:
                return b"", f"rank {self._ranks.rank}: exporting its {area.name}: {error}"
        return b"".join(exports), ""

    def _export(self, area: Area) -> wire.Export:
        handle, offset = bytes(_HANDLE_BYTES), 0
        if self._ranks.world_size > 1:
            base, _ = address_range(area.address)
            offset = area.address - base
            handle = ipc_handle(base)
        device = int(call("hipGetDevice"))
        return wire.Export(os.getpid(), device, _PROCESS, area.address, area.nbytes, offset, handle)

    def _open_all(self, areas: list[Area], gathered: list[list[wire.Export]]) -> str:
        for peer, exports in enumerate(gathered):
            for index, (area, export) in enumerate(zip(areas, exports, strict=True)):
                try:
                    address = self._open(area, export)
                except Error as error:
                    return f"rank {self._ranks.rank}: opening the {area.name} of rank {peer}: {error}"
                self.addresses[index].append(address)
        return ""

    def _open(self, area: Area, export: wire.Export) -> int:
        if export.nbytes != area.nbytes:
            raise PlatformError(f"it has {export.nbytes} bytes, and {area.nbytes} here")
        if (export.pid, export.process) == (os.getpid(), _PROCESS):
            _enable_peer_access(export.device)
            return export.address
        base = _mappings.open(export.handle)
        self._opened.append(export.handle)
        return base + export.offset

    # ---- verification ------------------------------------------------------------------------------------

    def _verify_all(self, tag: str, areas: list[Area], problem: str) -> None:
        patterns = [wire.Pattern(secrets.token_bytes(wire.Pattern.size())) for _ in areas]
        saved: list[bytes] = []
        try:
            if not problem:
                problem = self._write_patterns(areas, patterns, saved)
            data = b"".join(pattern.pack() for pattern in patterns)
            gathered = self._ranks.agree(f"{tag}/{wire.STEP_PATTERNS}", problem, data, self._error)
            problem = self._read_patterns(areas, unpack_rows(wire.Pattern, gathered, len(areas)))
            self._ranks.agree(f"{tag}/{wire.STEP_VERIFIED}", problem, error=self._error)
        finally:
            for area, original in zip(areas, saved, strict=False):
                write_memory(area.address, original)

    def _write_patterns(self, areas: list[Area], patterns: list[wire.Pattern], saved: list[bytes]) -> str:
        for area, pattern in zip(areas, patterns, strict=True):
            try:
                saved.append(read_memory(area.address, min(area.nbytes, len(pattern.pattern))))
                write_memory(area.address, pattern.pattern[: area.nbytes])
            except Error as error:
                return f"rank {self._ranks.rank}: writing its {area.name}: {error}"
        return ""

    def _read_patterns(self, areas: list[Area], gathered: list[list[wire.Pattern]]) -> str:
        for peer, patterns in enumerate(gathered):
            for index, (area, pattern) in enumerate(zip(areas, patterns, strict=True)):
                expected = pattern.pattern[: area.nbytes]
                try:
                    seen = read_memory(self.addresses[index][peer], len(expected))
                except Error as error:
                    return f"rank {self._ranks.rank}: reading the {area.name} of rank {peer}: {error}"
                if seen != expected:
                    own = self._ranks.rank
                    return f"rank {own}: the mapping of rank {peer}'s {area.name} shows other memory"
        return ""


class _Mappings:
    """The peers' allocations that this process has mapped: each once, however many want it.

    Several registered pieces of one allocation, in one communicator or in several, share a mapping. Few
    handles are open then, and nothing depends on a HIP library to count repeated opens.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mapped: dict[bytes, list[int]] = {}  # handle: address, number of users

    def open(self, handle: bytes) -> int:
        """Where the allocation of this handle begins here. Raises PlatformError."""
        with self._lock:
            if handle not in self._mapped:
                native = hip().hipIpcMemHandle_t()
                ctypes.memmove(native.as_c_void_p(), handle, _HANDLE_BYTES)
                pointer = call("hipIpcOpenMemHandle", native, hip().hipIpcMemLazyEnablePeerAccess)
                self._mapped[handle] = [int(pointer.as_c_void_p().value), 0]
            mapping = self._mapped[handle]
            mapping[1] += 1
            return mapping[0]

    def close(self, handle: bytes) -> None:
        """One user less; the last one unmaps it. Raises PlatformError."""
        with self._lock:
            mapping = self._mapped[handle]
            mapping[1] -= 1
            if mapping[1] == 0:
                del self._mapped[handle]
                call("hipIpcCloseMemHandle", ctypes.c_void_p(mapping[0]))


_mappings = _Mappings()


# ---- device memory, by address -----------------------------------------------------------------------------


def address_range(address: int) -> tuple[int, int]:
    """The base and size of the allocation that an address lies in.

    Raises:
        PlatformError: it is not device memory that HIP has allocated.
    """
    base, size = call("hipMemGetAddressRange", ctypes.c_void_p(address))
    return int(base.as_c_void_p().value), int(size)


def ipc_handle(base: int) -> bytes:
    """The IPC handle of an allocation. Raises PlatformError where it cannot be exported."""
    handle = call("hipIpcGetMemHandle", ctypes.c_void_p(base))
    return ctypes.string_at(handle.as_c_void_p(), _HANDLE_BYTES)


def read_memory(address: int, nbytes: int) -> bytes:
    """Device memory's contents. Raises PlatformError."""
    data = bytearray(nbytes)
    call("hipMemcpy", data, ctypes.c_void_p(address), nbytes, hip().hipMemcpyKind.hipMemcpyDeviceToHost)
    return bytes(data)


def write_memory(address: int, data: bytes) -> None:
    """Copy bytes to device memory, and wait until they are there. Raises PlatformError."""
    call("hipMemcpy", ctypes.c_void_p(address), data, len(data), hip().hipMemcpyKind.hipMemcpyHostToDevice)
    # from memory that is not pinned it may return before: a peer or another stream could read what was there
    call("hipStreamSynchronize", None)


def _enable_peer_access(device: int) -> None:
    """Let the current device reach *device*'s memory, where it cannot already."""
    current = int(call("hipGetDevice"))
    if device == current:
        return
    error = hip().hipDeviceEnablePeerAccess(device, 0)[0]
    if int(error) not in (0, int(hip().hipError_t.hipErrorPeerAccessAlreadyEnabled)):
        raise PlatformError(f"device {current} cannot reach device {device}: {error.name}")
