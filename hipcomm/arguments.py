"""The arguments of a call: what Python takes for each, what the core gets, and what is said of a wrong one.

Python checks that an argument is something that the core has a type for; whether its value makes sense is
the core's to check, which C programs call as well.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hipcomm.buffers import Buffer
from hipcomm.buffers.arrays import address_buffer, array_buffer, numpy_buffer
from hipcomm.buffers.dtypes import CODES
from hipcomm.buffers.reader import address_of
from hipcomm.core import VOID_POINTER, ffi
from hipcomm.errors import InvalidArgument
from hipcomm.memory.symmetric import SymmetricArray
from hipcomm.plan import REDUCTIONS

_ndarray = np.ndarray


class Arguments:
    """The arguments that one rank passes. Every method raises InvalidArgument, naming rank and operation."""

    def __init__(self, rank: int, world_size: int, host_is_device: bool) -> None:
        """Of a rank whose device can be given host memory, or not."""
        self._rank = rank
        self._world_size = world_size
        self.host_is_device = host_is_device

    def refusal(self, operation: str, problem: object) -> InvalidArgument:
        """The error for a call with a wrong argument."""
        return InvalidArgument(f"rank {self._rank}: {operation}: {problem}")

    def buffer(
        self,
        obj: Any,
        name: str,
        operation: str,
        writable: bool,
        count: Any,
        dtype: Any,
        parts: int = 1,
        any_order: bool = False,
    ) -> Buffer:
        """The buffer that *obj* is: an array; or an address, of *parts* times *count* elements.

        *any_order*: of an array that is dense, in any memory order.
        """
        if type(obj) is _ndarray and self.host_is_device and count is None and dtype is None:
            buffer = numpy_buffer(obj, writable)
            if buffer is not None:
                return buffer
        try:
            if count is None and dtype is None:
                if type(obj) is SymmetricArray:
                    return obj._buffer
                address = address_of(obj)
                if address is None:
                    return array_buffer(obj, name, writable, self.host_is_device, any_order)
            else:
                address = obj if type(obj) is int else address_of(obj)
                if address is None:
                    raise InvalidArgument(
                        f"{name}: count= and dtype= go with an address, not with {type(obj).__name__}"
                    )
            return address_buffer(address, count, dtype, name, parts)
        except InvalidArgument as error:
            raise self.refusal(operation, error) from None

    def parts_buffer(
        self, obj: Any, name: str, operation: str, writable: bool, extent: int, dtype: Any
    ) -> Buffer:
        """The buffer that *obj* is, which must have *extent* elements at least."""
        is_address = address_of(obj) is not None
        buffer = self.buffer(obj, name, operation, writable, extent if is_address else None, dtype)
        if buffer.count < extent:
            raise self.refusal(operation, f"{name} has {buffer.count} elements; the counts need {extent}")
        return buffer

    def match(self, operation: str, send: Buffer, recv: Buffer, sent: int = 1, received: int = 1) -> None:
        """See that sizes are as *sent* to *received*, and dtypes and memory orders equal."""
        if send.count * received == recv.count * sent and send.dtype == recv.dtype:
            if send.order == recv.order:
                return
            problem = f"sendbuf lies in memory as {_order_name(send)}, recvbuf as {_order_name(recv)}"
            raise self.refusal(operation, f"{problem}; the elements must be in one order")
        whole, parts = ("sendbuf", sent) if sent > received else ("recvbuf", received)
        raise self.refusal(
            operation,
            f"sendbuf has {send.count} elements of dtype {_dtype_name(send)}, recvbuf {recv.count} of "
            f"{_dtype_name(recv)}; {whole} must have {f'{parts} times ' if parts > 1 else ''}as many, "
            "of the same dtype",
        )

    def same_dtype(self, operation: str, send: Buffer, recv: Buffer) -> None:
        """See that the dtypes are equal."""
        if send.dtype != recv.dtype:
            raise self.refusal(
                operation, f"sendbuf is of dtype {_dtype_name(send)}, recvbuf of {_dtype_name(recv)}"
            )

    def peer(self, rank: Any, name: str, operation: str) -> int:
        """*rank* as the core takes one."""
        is_integer = isinstance(rank, (int, np.integer)) and not isinstance(rank, bool)
        if not is_integer or not -1 << 31 <= rank < 1 << 31:
            raise self.refusal(operation, f"{name} {rank!r} is not a rank")
        return int(rank)

    def op(self, op: Any, operation: str) -> int:
        """The core's number of a reduction."""
        try:
            return REDUCTIONS[op]
        except (KeyError, TypeError):
            raise self.refusal(operation, f"op {op!r} is none of {', '.join(REDUCTIONS)}") from None

    def stream(self, stream: Any, operation: str) -> Any:
        """The hipStream_t of whatever a caller may pass as a stream, as a cffi pointer."""
        if type(stream) is int and 0 <= stream < 1 << 64:  # the shortest way, as this is on every call's
            return ffi.cast(VOID_POINTER, stream)
        handle = getattr(stream, "ptr", stream)
        if hasattr(stream, "__cuda_stream__"):
            handle = stream.__cuda_stream__()[1]
        try:
            # int() also takes hip-python's stream objects; but text or a fraction is not a handle
            value = -1 if isinstance(handle, (str, bytes, float, bool)) else int(handle)
        except (TypeError, ValueError):
            value = -1
        if not 0 <= value < 1 << 64:
            raise self.refusal(operation, f"stream {stream!r} is neither a handle nor a stream object")
        return ffi.cast(VOID_POINTER, value)

    def rows(
        self, part: Any, whole: Any, names: tuple[str, str], dim: Any, operation: str
    ) -> tuple[int, int]:
        """How one rank's *part* lies in the *whole* array, which is *world_size* times as long along *dim*.

        Returns:
            Rows, and elements of one row of the part.
        """
        shape, whole_shape = getattr(part, "shape", None), getattr(whole, "shape", None)
        if shape is None or whole_shape is None:
            raise self.refusal(operation, f"dim {dim!r} needs arrays that have a shape")
        is_integer = isinstance(dim, (int, np.integer)) and not isinstance(dim, bool)
        if not is_integer or not -len(shape) <= dim < len(shape):
            raise self.refusal(
                operation, f"dim {dim!r}: {names[0]} has shape {tuple(shape)}, no such dimension"
            )
        axis = int(dim) % len(shape)
        expected = (*shape[:axis], shape[axis] * self._world_size, *shape[axis + 1 :])
        if tuple(whole_shape) != expected:
            raise self.refusal(
                operation,
                f"{names[0]} has shape {tuple(shape)}, {names[1]} {tuple(whole_shape)}; along dimension "
                f"{dim} in a world of {self._world_size} it must have {expected}",
            )
        return math.prod(shape[:axis]), math.prod(shape[axis:])

    def counts(
        self, counts: Any, displacements: Any, name: str, operation: str
    ) -> tuple[list[int], Any, Any, int]:
        """One count per rank, and where the parts begin.

        Returns:
            The counts, the core's arrays of counts and of displacements, and the elements that a buffer must
            have to hold all parts.
        """
        numbers = self._numbers(counts, f"{name}counts", operation)
        if displacements is None:
            return numbers, ffi.new("size_t[]", numbers), ffi.NULL, sum(numbers)
        begins = self._numbers(displacements, f"{name}displacements", operation)
        extent = max((b + n for b, n in zip(begins, numbers, strict=True) if n), default=0)
        return numbers, ffi.new("size_t[]", numbers), ffi.new("size_t[]", begins), extent

    def _numbers(self, values: Any, name: str, operation: str) -> list[int]:
        try:
            numbers = [int(value) for value in values]
            exact = all(not isinstance(v, bool) and v == n for v, n in zip(values, numbers, strict=True))
        except (TypeError, ValueError, OverflowError):  # the last: of an infinity
            exact, numbers = False, []
        if not exact or len(numbers) != self._world_size or any(not 0 <= n < 1 << 64 for n in numbers):
            raise self.refusal(operation, f"{name} {values!r} are not {self._world_size} numbers of elements")
        return numbers


def _order_name(buffer: Buffer) -> str:
    if buffer.order is None:
        return "C order"
    extents, slowest_first = buffer.order
    return f"dimensions {slowest_first} of {extents}, slowest first"


def _dtype_name(buffer: Buffer) -> str:
    name: str = next(dtype.name for dtype, code in CODES.items() if code == buffer.dtype)
    return name
