"""What a caller may pass as a buffer, and what the core needs of it: address, count, dtype.

Accepted are arrays of every library (:mod:`hipcomm.buffers.reader`) in memory that the device reaches, and
addresses, which come with ``count=`` and ``dtype=``.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from hipcomm.buffers import Buffer
from hipcomm.buffers.dtypes import CODES, NOT_IN_BUFFER_PROTOCOL, names, resolve
from hipcomm.buffers.layout import View, memory_order
from hipcomm.buffers.reader import read
from hipcomm.core import VOID_POINTER, ffi
from hipcomm.errors import InvalidArgument


def numpy_memory(array: np.ndarray[Any, Any], writable: bool) -> tuple[Any, int] | None:
    """Address and dtype of a NumPy array, where host memory will do; None where something else will not.

    This is on the path of every call on the CPU platform; :func:`array_buffer` takes the others, or says what
    is wrong with them.
    """
    code = CODES.get(array.dtype)
    flags = array.flags
    if code is None or not flags.c_contiguous or (writable and not flags.writeable):
        return None
    if array.dtype in NOT_IN_BUFFER_PROTOCOL:
        # reshape, because view() changes the itemsize of arrays with a last axis only
        return ffi.from_buffer(array.reshape(-1).view(np.uint8)), code
    return ffi.from_buffer(array), code


def numpy_buffer(array: np.ndarray[Any, Any], writable: bool) -> Buffer | None:
    """The buffer of a NumPy array, where :func:`numpy_memory` finds one."""
    memory = numpy_memory(array, writable)
    return None if memory is None else Buffer(memory[0], array.size, memory[1])


def array_buffer(obj: Any, name: str, writable: bool, host_is_device: bool, any_order: bool) -> Buffer:
    """The buffer of an array of any library.

    Args:
        obj: the array.
        name: of the argument, for messages.
        writable: whether it is for a result.
        host_is_device: whether the platform's device works in host memory.
        any_order: whether a dense array in another memory order than C's will do.

    Raises:
        InvalidArgument: it is not an array; its dtype, its memory or its memory order will not do; or
            *writable* and it cannot be written to.
    """
    view = view_of(obj, name, writable, host_is_device)
    return _buffer_of(view, name, any_order)


def is_cupy(obj: Any) -> bool:
    """Whether *obj* is an array of CuPy's, if the program has imported that."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and type(obj) is getattr(cupy, "ndarray", None)


def view_of(obj: Any, name: str, writable: bool, host_is_device: bool) -> View:
    """The memory of an array of any library, which the device reaches.

    Raises:
        InvalidArgument: see :func:`array_buffer`.
    """
    if is_cupy(obj):
        # by its attributes: its __cuda_array_interface__ takes longer to make. CuPy has no read-only arrays
        if obj.dtype not in CODES:
            raise InvalidArgument(f"{name}: dtype {obj.dtype} is not supported; these are: {names()}")
        strides = None if obj.flags.c_contiguous else obj.strides
        return View(obj.data.ptr, obj.shape, strides, obj.dtype, on_host=None)
    return _reachable(read(obj, name, writable), obj, name, host_is_device)


def _reachable(view: View, obj: Any, name: str, host_is_device: bool) -> View:
    """*view*, if it is in memory that the device reaches. Raises InvalidArgument."""
    if view.on_host is None or view.on_host == host_is_device:
        return view
    what = "a NumPy array" if isinstance(obj, np.ndarray) else type(obj).__name__
    if host_is_device:
        problem = "is in the memory of a GPU; this platform is the CPU"
    else:
        problem = "is host memory; this platform needs device memory (CuPy, comm.empty(), or an address)"
    raise InvalidArgument(f"{name}: {what} of shape {view.shape} {problem}")


def _buffer_of(view: View, name: str, any_order: bool) -> Buffer:
    order = None
    if not view.is_c_contiguous:
        assert view.strides is not None
        order = memory_order(view.shape, view.strides, view.dtype.itemsize)
        if order is None or not any_order:
            wanted = "dense: it has gaps, or overlaps itself" if any_order else "C-contiguous"
            raise InvalidArgument(
                f"{name}: an array of shape {view.shape} and strides {view.strides} is not {wanted}; "
                "pass numpy.ascontiguousarray(...) of it"
            )
    address = ffi.cast(VOID_POINTER, view.address)
    return Buffer(address, view.size, CODES[view.dtype], order, view.owner)


def address_buffer(address: int, count: Any, dtype: Any, name: str, parts: int = 1) -> Buffer:
    """The buffer of *parts* times *count* elements at a plain address.

    Raises:
        InvalidArgument: *count* or *dtype* is missing, negative or not supported.
    """
    if count is None or dtype is None:
        raise InvalidArgument(f"{name}: the address {address:#x} needs count= and dtype=")
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or not 0 <= count < 1 << 64:
        raise InvalidArgument(f"{name}: count {count!r} is not a number of elements")
    if address < 0 or address >> 64:
        raise InvalidArgument(f"{name}: {address} is not an address")
    return Buffer(ffi.cast(VOID_POINTER, address), int(count) * parts, CODES[resolve(dtype)])
