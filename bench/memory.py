"""The memory that all contestants share: allocated once, in NumPy or on the device, addressed by bytes."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hipcomm.hip import call, hip
from hipcomm.hip.device import Device

Array = NDArray[Any]
Bytes = NDArray[np.uint8]


def dtype_of(name: str) -> np.dtype[Any]:
    """Return the NumPy dtype called `name`; bfloat16 and the 8-bit floats are ml_dtypes'."""
    if name == "bfloat16" or name.startswith("float8"):
        import ml_dtypes

        small: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return small
    return np.dtype(name)


class Memory(Protocol):
    """One allocation of a rank; offsets and sizes in bytes."""

    address: int

    def write(self, offset: int, data: Bytes) -> None:
        """Copy `data` to `offset`; returns when it is there."""

    def read(self, offset: int, size: int) -> Bytes:
        """Return `size` bytes from `offset`, as they are now or as a copy."""

    def poison(self, offset: int, size: int) -> None:
        """Overwrite `size` bytes from `offset` with 0xA5."""

    def free(self) -> None:
        """Give the memory back; nothing may use it any more."""


class HostMemory:
    """Memory that NumPy allocates, as a program on the CPU platform would use."""

    def __init__(self, size: int) -> None:
        self.bytes: Bytes = np.empty(size, np.uint8)
        self.address = int(self.bytes.ctypes.data)

    def write(self, offset: int, data: Bytes) -> None:
        """Copy `data` to `offset`."""
        self.bytes[offset : offset + len(data)] = data

    def read(self, offset: int, size: int) -> Bytes:
        """Return a view of `size` bytes from `offset`."""
        return self.bytes[offset : offset + size]

    def poison(self, offset: int, size: int) -> None:
        """Overwrite `size` bytes from `offset` with 0xA5."""
        self.bytes[offset : offset + size] = 0xA5

    def free(self) -> None:
        """Leave it to the garbage collector."""


class DeviceMemory:
    """Memory from hipMalloc, zero at first."""

    def __init__(self, size: int) -> None:
        """Allocate `size` bytes. Raises PlatformError where there are not as many."""
        self._pointer = call("hipMalloc", max(size, 1))
        self.address = int(self._pointer)
        call("hipMemset", self._at(0), 0, max(size, 1))

    def write(self, offset: int, data: Bytes) -> None:
        """Copy `data` to `offset`, and wait for it."""
        kind = hip().hipMemcpyKind.hipMemcpyHostToDevice
        call("hipMemcpy", self._at(offset), ctypes.c_void_p(data.ctypes.data), data.nbytes, kind)
        call("hipDeviceSynchronize")  # from memory that is not pinned it may return while data is on its way

    def read(self, offset: int, size: int) -> Bytes:
        """Return a copy of `size` bytes from `offset`."""
        data = np.empty(size, np.uint8)
        kind = hip().hipMemcpyKind.hipMemcpyDeviceToHost
        call("hipMemcpy", ctypes.c_void_p(data.ctypes.data), self._at(offset), size, kind)
        return data

    def poison(self, offset: int, size: int) -> None:
        """Overwrite `size` bytes from `offset` with 0xA5, and wait for it."""
        if size:
            call("hipMemset", self._at(offset), 0xA5, size)
            call("hipDeviceSynchronize")  # a memset does not wait by itself

    def free(self) -> None:
        """Free it."""
        call("hipFree", self._pointer)

    def _at(self, offset: int) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.address + offset)


class PinnedMemory:
    """Host memory to which a stream can copy while the host does something else."""

    def __init__(self, size: int) -> None:
        """Allocate `size` bytes. Raises PlatformError where there are not as many."""
        self._pointer = call("hipHostMalloc", max(size, 1), 0)
        self.address = int(self._pointer)

    def holds(self, data: Bytes) -> bool:
        """Return whether it begins with exactly these bytes."""
        same: bool = _memcmp(self.address, data.ctypes.data, data.nbytes) == 0
        return same

    def read(self, size: int) -> Bytes:
        """Return a copy of the first `size` bytes."""
        return np.frombuffer(ctypes.string_at(self.address, size), np.uint8)

    def free(self) -> None:
        """Free it; nothing may be on its way to it."""
        call("hipHostFree", self._pointer)


_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


def enqueue_copy(target: int, source: int, size: int, stream: Any) -> None:
    """Copy between two addresses, in stream order; the host does not wait."""
    kind = hip().hipMemcpyKind.hipMemcpyDefault
    call("hipMemcpyAsync", ctypes.c_void_p(target), ctypes.c_void_p(source), size, kind, stream)


def allocate(device: Device, size: int) -> Memory:
    """Return `size` bytes that the device can use."""
    return HostMemory(size) if device.host_is_device else DeviceMemory(size)


def copy_on_device(target: int, source: int, size: int) -> None:
    """Copy between two addresses that the device can use, and wait for it."""
    if size:
        kind = hip().hipMemcpyKind.hipMemcpyDefault  # on the CPU platform one may be NumPy's
        call("hipMemcpy", ctypes.c_void_p(target), ctypes.c_void_p(source), size, kind)
        call("hipDeviceSynchronize")  # between two places of a device hipMemcpy may not wait


class DeviceArray:
    """Device memory in the form in which array libraries pass it on: ``__cuda_array_interface__``.

    bfloat16 has no type string there; it is told by the attribute `dtype`, as CuPy does it.
    """

    def __init__(self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.shape = shape
        self.size = math.prod(shape)
        self.address = address
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": dtype.str,
            "data": (address, False),
            "strides": None,
            "version": 3,
        }


@dataclass(frozen=True)
class Buffer:
    """`count` elements of `dtype` (a name), `offset` bytes into `memory`; as an array of `shape`, or flat."""

    memory: Memory
    offset: int
    count: int
    dtype: str
    shape: tuple[int, ...] = ()

    @cached_property
    def address(self) -> int:
        """Where it begins."""
        return self.memory.address + self.offset

    @cached_property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return dtype_of(self.dtype).itemsize

    @cached_property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.count * self.itemsize

    @cached_property
    def array(self) -> Any:
        """It as an array: NumPy's in host memory, else a DeviceArray."""
        dtype = dtype_of(self.dtype)
        if isinstance(self.memory, HostMemory):
            flat = self.memory.bytes[self.offset : self.offset + self.nbytes].view(dtype)
            return flat.reshape(self.shape or -1)
        return DeviceArray(self.address, self.shape or (self.count,), dtype)

    def at(self, base: int) -> DeviceArray:
        """Return the array that lies as far after the address `base` as this buffer does in its memory."""
        return DeviceArray(base + self.offset, self.shape or (self.count,), dtype_of(self.dtype))
