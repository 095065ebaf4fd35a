"""Symmetric memory: arrays that lie in memory which all ranks have mapped.

Collectives whose buffers lie in it work on them in place. :meth:`Communicator.empty` makes the arrays.
"""

from __future__ import annotations

import builtins
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from hipcomm.buffers import Buffer
from hipcomm.buffers.dtypes import CODES, NOT_IN_BUFFER_PROTOCOL
from hipcomm.buffers.layout import View
from hipcomm.core import ffi
from hipcomm.errors import InvalidArgument
from hipcomm.memory.peers import read_memory, write_memory

if TYPE_CHECKING:
    from hipcomm.memory.heap import Heap


class SymmetricArray:
    """A C-contiguous array in symmetric memory. Made by :meth:`Communicator.empty`.

    Every collective takes it, as does whatever reads DLPack, ``__cuda_array_interface__`` (on GPUs) or
    ``__array_interface__`` (on the CPU platform, where ``numpy.asarray`` gives a view). Its memory goes
    back with :meth:`free`; or, once the array is garbage on all ranks, at a later allocation. It is gone
    when the communicator is closed, for views of it too.

    Attributes:
        shape: the extents.
        dtype: the NumPy dtype.
        size: elements.
        nbytes: bytes.
        data_ptr: the address of the first element.
    """

    def __init__(
        self, heap: Heap, serial: int, address: int, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        """Not for users: :meth:`Communicator.empty` makes arrays."""
        self.shape = shape
        self.dtype = dtype
        self.size = int(np.prod(shape, dtype=object))
        self.nbytes = self.size * dtype.itemsize
        self._serial = serial
        self.data_ptr = address
        self._buffer = Buffer(ffi.cast("void *", address), self.size, CODES[dtype])
        self._heap = heap
        self._gone = ""
        # a deque takes what is appended as a whole, in whatever thread the garbage collector runs
        self._finalizer = weakref.finalize(self, heap.garbage.append, serial)
        self._finalizer.atexit = False

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    def free(self) -> None:
        """Give the memory back. Collective: all ranks free the same arrays in the same order.

        It waits for this rank's device first, so peers that are still in a collective are safe. The array
        and views of it must not be used afterwards.

        Raises:
            InvalidArgument: the array is freed already, or the communicator is closed and the memory gone
                (found here); or the ranks free different arrays (found on all of them; nothing is freed).
        """
        if not self._finalizer.alive:
            raise InvalidArgument(f"rank {self._heap.rank}: free: the array is freed already")
        self._heap.free(self)
        self._finalizer.detach()
        self._forget("the array is freed")

    def _forget(self, why: str) -> None:
        """The memory is gone; from now on a call that needs it is refused, with the reason.

        The attributes go, and so what every call would have to check first costs nothing: 0.1 us of 0.7.
        """
        self._gone = why
        del self.data_ptr, self._buffer

    def numpy(self) -> np.ndarray[Any, Any]:
        """A view as a NumPy array, on the CPU platform. Raises InvalidArgument on GPUs."""
        if not self._heap.device.host_is_device:
            raise InvalidArgument(
                f"rank {self._heap.rank}: numpy(): this array is in device memory; see to_host()"
            )
        # via bytes: the interface has no name for bfloat16
        return np.asarray(_Bytes(self)).view(self.dtype).reshape(self.shape)

    def to_host(self) -> np.ndarray[Any, Any]:
        """A copy as a NumPy array. Waits for the default stream. Raises PlatformError."""
        return np.frombuffer(read_memory(self.data_ptr, self.nbytes), self.dtype).reshape(self.shape)

    def from_host(self, array: Any) -> None:
        """Copy a NumPy array of the same shape and dtype here.

        Raises:
            InvalidArgument: shape or dtype differ.
        """
        data = np.asarray(array)
        if data.shape != self.shape or data.dtype != self.dtype:
            raise InvalidArgument(
                f"rank {self._heap.rank}: from_host: an array of shape {data.shape} and dtype "
                f"{data.dtype}, not of {self.shape} and {self.dtype}"
            )
        write_memory(self.data_ptr, data.tobytes())

    # ---- how other libraries see it ------------------------------------------------------------------------

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        array = self.numpy()
        if copy or (dtype is not None and np.dtype(dtype) != self.dtype):
            return array.astype(self.dtype if dtype is None else dtype)
        return array

    def __getattr__(self, name: str) -> Any:
        # one interface or the other exists, by where the memory is; the absent one must not be seen
        if name in ("__cuda_array_interface__", "__array_interface__"):
            on_host = name == "__array_interface__"
            # NumPy's interface cannot name ml_dtypes' types, and __array__() serves as well
            has_name = not on_host or self.dtype.kind != "V"
            if on_host == self._heap.device.host_is_device and has_name:
                interface = {
                    "shape": self.shape,
                    "typestr": self.dtype.str,
                    "data": (self.data_ptr, False),
                    "version": 3,
                    "strides": None,
                }
                return interface if on_host else {**interface, "stream": None}
        if name in ("data_ptr", "_buffer"):
            raise InvalidArgument(f"rank {self._heap.rank}: {self!r}: {self._gone}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __dlpack_device__(self) -> tuple[int, int]:
        """DLPack's device type (CPU, CUDA or ROCm) and the device's ordinal."""
        return self._heap.dlpack_device

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A DLPack capsule that shares the memory, and may be written to.

        Args:
            stream: not looked at: streams are ordered by the program.
            max_version: the newest DLPack that the consumer knows; from (1, 0) on the capsule has a version.
            dl_device: None, or where the memory is.
            copy: None or False: there are no copies.

        Raises:
            BufferError: a copy is asked for, or another device.
        """
        from hipcomm.buffers import dlpack_export

        device = self._heap.dlpack_device
        if copy or (dl_device is not None and tuple(dl_device) != device):
            raise BufferError("symmetric memory is shared where it is; copy the array that is made of it")
        return dlpack_export.capsule(self, self.data_ptr, self.shape, self.dtype, device, max_version)

    def __buffer__(self, flags: int) -> builtins.memoryview:
        """``memoryview(array)``, on the CPU platform, from Python 3.12 on. See :meth:`memoryview`."""
        return self.memoryview()

    def memoryview(self) -> builtins.memoryview:
        """The memory as a writable memoryview, on the CPU platform.

        It has the array's shape; or is one of bytes, where the buffer protocol has no name for the dtype
        (bfloat16, float8). Raises InvalidArgument on GPUs.
        """
        array: Any = self.numpy()
        if self.dtype in NOT_IN_BUFFER_PROTOCOL:
            return builtins.memoryview(array.reshape(-1).view(np.uint8))
        return builtins.memoryview(array)

    def _hipcomm_view(self) -> View:
        """What hipcomm's own reader sees."""
        on_host = self._heap.device.host_is_device
        return View(self.data_ptr, self.shape, None, self.dtype, on_host=on_host, owner=self)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of an array without dimensions")
        return self.shape[0]

    def __repr__(self) -> str:
        place = "without memory" if self._gone else f"at {self.data_ptr:#x}"
        return f"<hipcomm.SymmetricArray {self.dtype.name}{list(self.shape)} {place}>"


class _Bytes:
    """The bytes of an array, and the array with them, for NumPy."""

    def __init__(self, array: SymmetricArray) -> None:
        self._array = array
        self.__array_interface__ = {
            "shape": (array.nbytes,),
            "typestr": "|u1",
            "data": (array.data_ptr, False),
            "version": 3,
        }
