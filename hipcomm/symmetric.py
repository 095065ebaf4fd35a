"""Symmetric memory: arrays that lie in memory which all ranks have mapped.

Collectives whose buffers lie in it work on them in place. :meth:`Communicator.empty` makes the arrays.

They are cut from a few large segments, each a power of two times 2 MiB with one handle: a process that
opens many handles has been seen to get wrong mappings. All ranks allocate and free in the same order, so
every rank cuts at the same offsets; what they exchange is only whether they agree.
"""

from __future__ import annotations

import operator
import struct
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from hipcomm.arrays import Buffer
from hipcomm.core import ffi
from hipcomm.dtypes import CODES, resolve
from hipcomm.errors import Error, InvalidArgument
from hipcomm.peer_memory import Area, read_memory, write_memory
from hipcomm.platform import Device, call
from hipcomm.ranks import Ranks
from hipcomm.registration import Region
from hipcomm.segments import Cut, Segments, segment_size

_MOST_BYTES = 1 << 46


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
        buffer: what the core needs of it.
    """

    def __init__(
        self, heap: Heap, serial: int, address: int, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        """Not for users: :meth:`Communicator.empty` makes arrays."""
        self.shape = shape
        self.dtype = dtype
        self.size = int(np.prod(shape, dtype=object))
        self.nbytes = self.size * dtype.itemsize
        self.serial = serial
        self.data_ptr = address
        self.buffer = Buffer(ffi.cast("void *", address), self.size, CODES[dtype])
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
        self.forget("the array is freed")

    def forget(self, why: str) -> None:
        """Not for users: the memory is gone. Whoever asks for it from now on is told why.

        The attributes go, and so what every call would have to check first costs nothing: 0.1 us of 0.7.
        """
        self._gone = why
        del self.data_ptr, self.buffer

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
        if name in ("data_ptr", "buffer"):
            raise InvalidArgument(f"rank {self._heap.rank}: {self!r}: {self._gone}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __dlpack_device__(self) -> tuple[int, int]:
        """DLPack's device type (CPU, CUDA or ROCm) and the device's ordinal."""
        return self._heap.dlpack_device

    def __dlpack__(self, **_: Any) -> Any:
        """A DLPack capsule that shares the memory. Raises BufferError for dtypes without a number there."""
        from hipcomm import dlpack

        return dlpack.capsule(self, self.data_ptr, self.shape, self.dtype, self._heap.dlpack_device)

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


class _Segment:
    """One segment: this rank's memory and the region of all ranks'."""

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
            self.region = Region(ranks, comm, Area("symmetric memory", self.address, nbytes), problem, Error)
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
        self._segments: dict[int, _Segment] = {}
        self._bookkeeping = Segments()
        self._cuts: dict[int, Cut] = {}  # by serial number
        self._arrays: weakref.WeakSet[SymmetricArray] = weakref.WeakSet()
        self._is_closed = False
        self._next_serial = 0
        self._next_segment = 0

    def allocate(self, shape: Any, dtype: Any) -> SymmetricArray:
        """Make an array; see :meth:`Communicator.empty`."""
        extents, resolved, problem = self._check(shape, dtype)
        nbytes = 0 if problem else int(np.prod(extents, dtype=object)) * resolved.itemsize
        with self.device.current():
            self._agree_on_allocation(nbytes, problem)
            cut = self._bookkeeping.cut(nbytes)
            if cut is None:
                self._add_segment(segment_size(nbytes))
                cut = self._bookkeeping.cut(nbytes)
                assert cut is not None
        serial = self._next_serial
        self._next_serial += 1
        self._cuts[serial] = cut
        address = self._segments[cut.segment].address + cut.offset
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
        dead = sorted(self._dead)
        if dead:
            call("hipDeviceSynchronize")  # what is enqueued here may still use it
        message = struct.pack(f"<Q{len(dead)}Q", nbytes, *dead)
        gathered = self._ranks.agree("empty", problem, message, InvalidArgument)
        sizes = [struct.unpack_from("<Q", theirs)[0] for theirs in gathered]
        for peer, size in enumerate(sizes):
            if size != sizes[0]:
                raise InvalidArgument(
                    f"rank {self.rank}: empty: rank {peer} asks for {size} bytes and rank 0 for {sizes[0]}; "
                    "symmetric memory has one size on all ranks"
                )
        everywhere = set(dead)
        for theirs in gathered:
            everywhere &= set(struct.unpack_from(f"<{len(theirs) // 8 - 1}Q", theirs, 8))
        for serial in sorted(everywhere):
            self._dead.remove(serial)
            self._take_back(serial)

    def free(self, array: SymmetricArray) -> None:
        """Take an array's memory back; see :meth:`SymmetricArray.free`."""
        if self._is_closed:
            raise InvalidArgument(f"rank {self.rank}: free: the communicator is closed")
        with self.device.current():
            call("hipDeviceSynchronize")
            gathered = self._ranks.all_gather("free", struct.pack("<Q", array.serial))
            if any(theirs != gathered[0] for theirs in gathered):
                order = [struct.unpack("<Q", theirs)[0] for theirs in gathered]
                raise InvalidArgument(
                    f"rank {self.rank}: free: the ranks free different arrays: allocations {order}, by rank"
                )
            self._take_back(array.serial)
        self._arrays.discard(array)

    def _take_back(self, serial: int) -> None:
        self._bookkeeping.give_back(self._cuts.pop(serial))
        # one empty segment stays, for a program that allocates and frees in turns
        for number in self._bookkeeping.empty()[1:]:
            self._remove_segment(number)

    def _add_segment(self, nbytes: int) -> None:
        segment = _Segment(self._ranks, self._comm, nbytes)
        self._segments[self._next_segment] = segment
        self._bookkeeping.add(self._next_segment, nbytes)
        self._next_segment += 1

    def _remove_segment(self, number: int) -> None:
        """Nobody's kernels use it: whoever gave the last array back has waited for his device."""
        segment = self._segments.pop(number)
        self._bookkeeping.remove(number)
        segment.region.close_peers()
        self._ranks.all_gather("unmapped", b"")
        segment.free()

    @property
    def nbytes(self) -> int:
        """Device memory that this rank has allocated for it."""
        return sum(segment.nbytes for segment in self._segments.values())

    # ---- the end, step by step with the communicator's other memory ------------------------------------

    def close_peers(self) -> None:
        """Unmap the peers' segments. Nothing that uses them may be running here, or comes later."""
        self._is_closed = True
        for array in self._arrays:
            array.forget("the communicator is closed")
        for segment in self._segments.values():
            segment.region.close_peers()

    def free_all(self) -> None:
        """Free this rank's segments. No peer may have them mapped any more."""
        while self._segments:
            self._segments.popitem()[1].free()
