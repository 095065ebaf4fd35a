"""Buffers that are rows: tokens of *hidden* elements each, which may lie further apart than they are long."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from hipcomm.buffers.arrays import element_type
from hipcomm.buffers.dtypes import CODES, names
from hipcomm.core import VOID_POINTER, ffi
from hipcomm.errors import InvalidArgument


class Rows(NamedTuple):
    """A caller's rows.

    Attributes:
        address: a cffi ``void *``.
        tokens: how many.
        hidden: elements of each.
        stride: elements from one to the next.
        dtype: the core's number of the element type.
    """

    address: Any
    tokens: int
    hidden: int
    stride: int
    dtype: int


def strided_rows(obj: Any, name: str, writable: bool, host_is_device: bool) -> Rows | None:
    """The rows of an array that says where its elements lie; None: it does not, or not in device memory.

    Raises:
        InvalidArgument: the dtype is not supported, elements of a row are not next to each other, there are
            other dimensions than two and gaps between rows, or it is read-only and *writable* is asked for.
    """
    if isinstance(obj, np.ndarray):
        if not host_is_device:
            return None
        interface: dict[str, Any] = obj.__array_interface__
        dtype: np.dtype[Any] = obj.dtype
        strides: tuple[int, ...] | None = obj.strides
    else:
        found = getattr(obj, "__cuda_array_interface__", None)
        if found is None:
            return None
        interface = found
        dtype, strides = element_type(obj, interface["typestr"]), interface.get("strides")
    code = CODES.get(dtype)
    if code is None:
        raise InvalidArgument(f"{name}: dtype {dtype} is not supported; these are: {names()}")
    address, read_only = interface["data"]
    shape = tuple(interface["shape"])
    if writable and read_only:
        raise InvalidArgument(f"{name}: an array of shape {shape} is read-only")
    if not shape:
        raise InvalidArgument(f"{name}: an array without dimensions has no rows")
    tokens, hidden = math.prod(shape[:-1]), shape[-1]
    stride = _row_stride(shape, strides, dtype.itemsize)
    if stride is None:
        raise InvalidArgument(
            f"{name}: an array of shape {shape} and strides {strides} is no rows: elements of a row must be "
            "next to each other, and rows may be further apart only where there are two dimensions"
        )
    return Rows(ffi.cast(VOID_POINTER, address or 0), tokens, hidden, stride, code)


def _row_stride(shape: tuple[int, ...], strides: tuple[int, ...] | None, itemsize: int) -> int | None:
    """Elements from one row to the next; None where there is no such number."""
    hidden = shape[-1]
    if strides is None or 0 in shape:
        return hidden
    if hidden > 1 and strides[-1] != itemsize:
        return None
    if len(shape) == 2 and shape[0] > 1:
        stride, rest = divmod(strides[0], itemsize)
        return stride if rest == 0 and stride >= hidden else None
    expected = hidden * itemsize
    for extent, distance in zip(reversed(shape[:-1]), reversed(strides[:-1]), strict=True):
        if extent != 1 and distance != expected:
            return None
        expected *= extent
    return hidden
