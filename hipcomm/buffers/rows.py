"""Buffers that are rows: tokens of *hidden* elements each, which may lie further apart than they are long."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from hipcomm.buffers.arrays import numpy_buffer, view_of
from hipcomm.buffers.dtypes import CODES
from hipcomm.buffers.layout import View
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
        owner: what has to live as long as the memory is used.
    """

    address: Any
    tokens: int
    hidden: int
    stride: int
    dtype: int
    owner: Any = None


def numpy_rows(array: Any, writable: bool) -> Rows | None:
    """The rows of a two-dimensional NumPy array in host memory; None where something else has to look at it.

    As :func:`hipcomm.buffers.arrays.numpy_buffer`, on the path of every call; :func:`strided_rows` takes the
    others.
    """
    buffer = numpy_buffer(array, writable)
    if buffer is None:
        return None
    tokens, hidden = array.shape
    return Rows(ffi.cast(VOID_POINTER, buffer.address), tokens, hidden, hidden, buffer.dtype, array)


def strided_rows(obj: Any, name: str, writable: bool, host_is_device: bool) -> Rows:
    """The rows of an array.

    Raises:
        InvalidArgument: it is not an array, the dtype is not supported, elements of a row are not next to
            each other, there are other dimensions than two and gaps between rows, or it is read-only and
            *writable* is asked for.
    """
    view = view_of(obj, name, writable, host_is_device)
    if not view.shape:
        raise InvalidArgument(f"{name}: an array without dimensions has no rows")
    stride = _row_stride(view)
    if stride is None:
        raise InvalidArgument(
            f"{name}: an array of shape {view.shape} and strides {view.strides} is no rows: elements of a "
            "row must be next to each other, and rows further apart only where there are two dimensions"
        )
    address = ffi.cast(VOID_POINTER, view.address)
    tokens, hidden = math.prod(view.shape[:-1]), view.shape[-1]
    return Rows(address, tokens, hidden, stride, CODES[view.dtype], view.owner)


def _row_stride(view: View) -> int | None:
    """Elements from one row to the next; None where there is no such number."""
    shape, strides, itemsize = view.shape, view.strides, view.dtype.itemsize
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
