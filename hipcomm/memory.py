"""Memory that the ranks share: allocate, export, exchange, open, verify; and give back together.

Each rank has two slabs (kernels/abi.h says what is in them), one IPC handle each. After the exchange
every rank writes a pattern into its own slabs and reads every peer's through its mapping: a mapping
that is wrong but "successful" has been seen where many handles are open.
"""

from __future__ import annotations

import ctypes
import secrets
import struct
from collections.abc import Callable
from typing import Any

from hipcomm.core import ffi
from hipcomm.errors import Error, PlatformError
from hipcomm.platform import call, hip

_UNCACHED = 0x3  # hipDeviceMallocUncached; hip-python has no name for it
_HANDLE_BYTES = 64
_PATTERN_BYTES = 64

AllGather = Callable[[str, bytes], "list[bytes]"]


class Slabs:
    """The control and staging slabs of all ranks, as mapped in this process.

    Attributes:
        control: cffi ``void *[world]``.
        staging: likewise.
        bytes: device memory that this rank has allocated.
    """

    def __init__(self, rank: int, world_size: int, layout: Any) -> None:
        """Allocate this rank's two slabs as the core's ``hipcommLayout`` says; then :meth:`exchange`."""
        self._rank = rank
        self._world_size = world_size
        self.control = ffi.new("void *[]", world_size)
        self.staging = ffi.new("void *[]", world_size)
        self.bytes = 0
        self._own: list[Any] = []
        self._opened: list[int] = []
        self.control[rank] = self._allocate(layout.control_bytes, uncached=True)
        self.staging[rank] = self._allocate(layout.staging_bytes, uncached=bool(layout.staging_uncached))

    def _allocate(self, size: int, uncached: bool) -> Any:
        pointer = call("hipExtMallocWithFlags", size, _UNCACHED) if uncached else call("hipMalloc", size)
        self._own.append(pointer)
        self.bytes += size
        return ffi.cast("void *", _address(pointer))

    def exchange(self, all_gather: AllGather) -> None:
        """Open the peers' slabs and verify every mapping.

        Raises:
            PlatformError: on all ranks, naming the first rank for which something failed.
        """
        handles, problem = self._export()
        gathered = all_gather("hipcomm/handles", _pack(problem, handles))
        _raise_first(gathered)
        problem = self._open([_unpack(message)[1] for message in gathered])

        pattern = secrets.token_bytes(_PATTERN_BYTES)
        problem = problem or _write_patterns(self.control[self._rank], self.staging[self._rank], pattern)
        gathered = all_gather("hipcomm/patterns", _pack(problem, pattern))
        _raise_first(gathered)
        problem = self._verify([_unpack(message)[1] for message in gathered])
        _raise_first(all_gather("hipcomm/verified", _pack(problem, b"")))

    def _export(self) -> tuple[bytes, str]:
        try:
            return b"".join(_handle_of(pointer) for pointer in self._own), ""
        except Error as error:
            return b"", f"rank {self._rank}: exporting its memory: {error}"

    def _open(self, handles: list[bytes]) -> str:
        for peer, both in enumerate(handles):
            if peer == self._rank:
                continue
            try:
                self.control[peer] = self._open_one(both[:_HANDLE_BYTES])
                self.staging[peer] = self._open_one(both[_HANDLE_BYTES:])
            except Error as error:
                return f"rank {self._rank}: opening the memory of rank {peer}: {error}"
        return ""

    def _open_one(self, handle: bytes) -> Any:
        native = hip().hipIpcMemHandle_t()
        ctypes.memmove(native.as_c_void_p(), handle, _HANDLE_BYTES)
        pointer = call("hipIpcOpenMemHandle", native, hip().hipIpcMemLazyEnablePeerAccess)
        self._opened.append(_address(pointer))
        return ffi.cast("void *", _address(pointer))

    def _verify(self, patterns: list[bytes]) -> str:
        for peer, pattern in enumerate(patterns):
            for slab, base in (("control", self.control[peer]), ("staging", self.staging[peer])):
                try:
                    seen = _read(base, _PATTERN_BYTES)
                except Error as error:
                    return f"rank {self._rank}: reading the {slab} slab of rank {peer}: {error}"
                if seen != _pattern_of(slab, pattern):
                    return f"rank {self._rank}: the mapping of rank {peer}'s {slab} slab shows other memory"
        return ""

    def close_peers(self) -> None:
        """Unmap the peers' slabs. Nothing that uses them may be running here."""
        while self._opened:
            call("hipIpcCloseMemHandle", ctypes.c_void_p(self._opened.pop()))

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
        self.host = ffi.cast("void *", _address(self._pointer))
        self.device = ffi.cast("void *", _address(call("hipHostGetDevicePointer", self._pointer, 0)))

    def free(self) -> None:
        """Free the page. No kernel may use it any more."""
        call("hipHostFree", self._pointer)


def _address(pointer: Any) -> int:
    return int(pointer.as_c_void_p().value)


def _handle_of(pointer: Any) -> bytes:
    handle = call("hipIpcGetMemHandle", pointer)
    return ctypes.string_at(handle.as_c_void_p(), _HANDLE_BYTES)


def _pattern_of(slab: str, pattern: bytes) -> bytes:
    return pattern if slab == "control" else pattern[::-1]


def _write_patterns(control: Any, staging: Any, pattern: bytes) -> str:
    for slab, base in (("control", control), ("staging", staging)):
        data = _pattern_of(slab, pattern)
        kind = hip().hipMemcpyKind.hipMemcpyHostToDevice
        try:
            call("hipMemcpy", _void(base), data, len(data), kind)
        except PlatformError as error:
            return f"writing the own {slab} slab: {error}"
    return ""


def _read(base: Any, size: int) -> bytes:
    data = bytearray(size)
    call("hipMemcpy", data, _void(base), size, hip().hipMemcpyKind.hipMemcpyDeviceToHost)
    return bytes(data)


def _void(pointer: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(int(ffi.cast("uintptr_t", pointer)))


def _pack(problem: str, data: bytes) -> bytes:
    text = problem.encode()
    return struct.pack("<I", len(text)) + text + data


def _unpack(message: bytes) -> tuple[str, bytes]:
    (length,) = struct.unpack_from("<I", message)
    return message[4 : 4 + length].decode(), message[4 + length :]


def _raise_first(gathered: list[bytes]) -> None:
    """The same error on every rank, or on none."""
    for message in gathered:
        problem = _unpack(message)[0]
        if problem:
            raise PlatformError(problem)
