"""Buffers that are rows: tokens of *hidden* elements each, which may lie further apart than they are long."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from hipcomm.buffers.arrays import is_cupy, numpy_memory, view_of
from hipcomm.buffers.dtypes import CODES
from hipcomm.buffers.layout import View
from hipcomm.core import VOID_POINTER, ffi
from hipcomm.errors import InvalidArgument


class Rows(NamedTuple):
    """A caller's rows.

    Attributes:
        address: a cffi ``void *`` or ``char[]``; the latter keeps its memory alive.
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


def quick_rows(array: Any, writable: bool, host_is_device: bool) -> Rows | None:
    """The rows of an array of two dimensions in C order, NumPy's or CuPy's; None: something else looks at it.

    On the path of every call; :func:`strided_rows` takes the others, or says what is wrong with them.
    """
    if host_is_device and type(array) is np.ndarray and array.ndim == 2:
        memory = numpy_memory(array, writable)
        if memory is None:
            return None
        address, code = memory
    elif is_cupy(array) and array.ndim == 2 and array.flags.c_contiguous and array.dtype in CODES:
        address, code = ffi.cast(VOID_POINTER, array.data.ptr), CODES[array.dtype]
    else:
        return None
    tokens, hidden = array.shape
    return Rows(address, tokens, hidden, hidden, code, array)


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
