"""What a caller may pass as a buffer, and what the core needs of it: address, count, dtype.

Accepted are NumPy arrays (on the CPU platform, where host memory is device memory), objects with
``__cuda_array_interface__`` (CuPy, Numba, JAX, hipcomm's own), objects with ``__dlpack__``, and plain
addresses as integers, which come with ``count=`` and ``dtype=``.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from hipcomm.buffers import Buffer
from hipcomm.buffers.dtypes import CODES, NOT_IN_BUFFER_PROTOCOL, names, resolve
from hipcomm.core import VOID_POINTER, ffi
from hipcomm.errors import InvalidArgument


def numpy_buffer(array: np.ndarray[Any, Any], name: str, writable: bool) -> Buffer:
    """The buffer of a NumPy array.

    This is on the path of every call, so it looks at the array only once where all is well.

    Raises:
        InvalidArgument: the dtype is not supported, the array is not C-contiguous, or it is
            read-only and *writable* is asked for.
    """
    code = CODES.get(array.dtype)
    flags = array.flags
    if code is None or not flags.c_contiguous or (writable and not flags.writeable):
        raise _refusal(array, name, writable)
    if array.dtype in NOT_IN_BUFFER_PROTOCOL:
        # reshape, because view() changes the itemsize of arrays with a last axis only
        return Buffer(ffi.from_buffer(array.reshape(-1).view(np.uint8)), array.size, code)
    return Buffer(ffi.from_buffer(array), array.size, code)


def _refusal(array: np.ndarray[Any, Any], name: str, writable: bool) -> InvalidArgument:
    if array.dtype not in CODES:
        return InvalidArgument(f"{name}: dtype {array.dtype} is not supported; these are: {names()}")
    if not array.flags.c_contiguous:
        return InvalidArgument(
            f"{name}: an array of shape {array.shape} and strides {array.strides} is not C-contiguous; "
            "pass numpy.ascontiguousarray(...) of it"
        )
    assert writable
    return InvalidArgument(f"{name}: an array of shape {array.shape} is read-only")


def foreign_buffer(obj: Any, name: str, writable: bool, host_is_device: bool) -> Buffer:
    """The buffer of anything else that is an array.

    Raises:
        InvalidArgument: it is not an array, or one of the reasons of :func:`numpy_buffer`, or it is in
            host memory on a GPU platform.
    """
    cupy = sys.modules.get("cupy")
    if cupy is not None and type(obj) is getattr(cupy, "ndarray", None):
        return _cupy_buffer(obj, name)
    interface = getattr(obj, "__cuda_array_interface__", None)
    if interface is not None:
        return _cuda_buffer(obj, interface, name, writable)
    if host_is_device:
        array = _as_numpy(obj, name)
        return numpy_buffer(array, name, writable)
    if isinstance(obj, np.ndarray):
        raise InvalidArgument(
            f"{name}: a NumPy array of shape {obj.shape} is host memory; this platform needs device memory "
            "(CuPy, comm.empty(), or an address)"
        )
    return _dlpack_device_buffer(obj, name, writable)


def _cupy_buffer(array: Any, name: str) -> Buffer:
    """The buffer of a CuPy array, by its attributes: its ``__cuda_array_interface__`` takes longer to make.

    CuPy has no read-only arrays.
    """
    if not array.flags.c_contiguous:
        raise InvalidArgument(
            f"{name}: an array of shape {array.shape} and strides {array.strides} is not C-contiguous"
        )
    code = CODES.get(array.dtype)
    if code is None:
        raise InvalidArgument(f"{name}: dtype {array.dtype} is not supported; these are: {names()}")
    return Buffer(ffi.cast(VOID_POINTER, array.data.ptr), array.size, code)


def _cuda_buffer(obj: Any, interface: dict[str, Any], name: str, writable: bool) -> Buffer:
    dtype = element_type(obj, interface["typestr"])
    shape = interface["shape"]
    address, read_only = interface["data"]
    strides = interface.get("strides")
    if strides is not None and not _is_contiguous(shape, strides, dtype.itemsize):
        raise InvalidArgument(
            f"{name}: an array of shape {shape} and strides {interface['strides']} is not C-contiguous"
        )
    if writable and read_only:
        raise InvalidArgument(f"{name}: an array of shape {shape} is read-only")
    count = shape[0] if len(shape) == 1 else math.prod(shape)
    return Buffer(ffi.cast(VOID_POINTER, address or 0), count, CODES[dtype])


def element_type(obj: Any, typestr: str) -> np.dtype[Any]:
    """CuPy has no typestr for bfloat16, its dtype says more than "<V2"; others have dtypes of their own."""
    own = getattr(obj, "dtype", None)
    if own is not None:
        try:
            return resolve(own)
        except InvalidArgument:
            if typestr[1:2] == "V":
                raise
    return resolve(typestr)


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> bool:
    if 0 in shape:
        return True
    expected = itemsize
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent != 1 and stride != expected:
            return False
        expected *= extent
    return True


def _as_numpy(obj: Any, name: str) -> np.ndarray[Any, Any]:
    if isinstance(obj, np.ndarray):
        return obj
    if isinstance(obj, np.generic):  # np.asarray() would make a copy, and the result would be lost
        raise InvalidArgument(f"{name}: {type(obj).__name__} is a scalar, not an array")
    try:
        if hasattr(obj, "__array_interface__"):
            return np.asarray(obj)
        return np.from_dlpack(obj)
    except (AttributeError, TypeError, ValueError, BufferError, RuntimeError) as error:
        raise InvalidArgument(
            f"{name}: {type(obj).__name__} is not an array in host memory ({error})"
        ) from error


def _dlpack_device_buffer(obj: Any, name: str, writable: bool) -> Buffer:
    if not hasattr(obj, "__dlpack__"):
        raise InvalidArgument(
            f"{name}: {type(obj).__name__} is neither an array in device memory nor an address"
        )
    from hipcomm.buffers import dlpack  # rarely needed, and ctypes is not free

    return dlpack.device_buffer(obj, name, writable)


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
