"""DLPack, in both directions: arrays of others in device memory (JAX, among others), and our own for others.

Capsules are read and made with ctypes; the layout is that of DLPack 0.x and of the array part of 1.x:
https://dmlc.github.io/dlpack/latest/c_api.html
"""

from __future__ import annotations

import ctypes
from typing import Any

import ml_dtypes
import numpy as np

from hipcomm.buffers import Buffer
from hipcomm.buffers.dtypes import CODES, names
from hipcomm.core import ffi
from hipcomm.errors import InvalidArgument

_DEVICES = {2: "CUDA", 10: "ROCm"}  # kDLCUDA, kDLROCM
_TYPES = {
    **{(0, bits): np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{(1, bits): np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{(2, bits): np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    (4, 16): np.dtype(ml_dtypes.bfloat16),
}


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_get_pointer.restype = ctypes.c_void_p
_get_pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)


def device_buffer(obj: Any, name: str, writable: bool) -> Buffer:
    """The buffer of an object with ``__dlpack__`` in the memory of a GPU.

    DLPack before 1.0 does not say whether an array is read-only, so a JAX array can be received
    into; JAX will not know. *writable* is taken on trust.

    Raises:
        InvalidArgument: the memory is not a GPU's, the dtype is not supported, or the array is not
            C-contiguous.
    """
    device_type, _ = obj.__dlpack_device__()
    if int(device_type) not in _DEVICES:
        raise InvalidArgument(
            f"{name}: {type(obj).__name__} is in memory of DLPack device type {int(device_type)}, "
            "not of a GPU"
        )
    capsule = obj.__dlpack__()  # the capsule frees itself, and the array keeps the memory
    tensor = _Tensor.from_address(_get_pointer(capsule, b"dltensor"))
    dtype = _TYPES.get((tensor.code, tensor.bits)) if tensor.lanes == 1 else None
    if dtype is None or dtype not in CODES:
        raise InvalidArgument(
            f"{name}: dtype {getattr(obj, 'dtype', dtype)} is not supported; these are: {names()}"
        )
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    if tensor.strides and 0 not in shape:
        expected = 1
        for axis in reversed(range(tensor.ndim)):
            if shape[axis] != 1 and tensor.strides[axis] != expected:
                raise InvalidArgument(f"{name}: an array of shape {shape} is not C-contiguous")
            expected *= shape[axis]
    count = 1
    for extent in shape:
        count *= extent
    return Buffer(ffi.cast("void *", (tensor.data or 0) + tensor.byte_offset), count, CODES[dtype])


# ---- our own arrays, for others --------------------------------------------------------------------------


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


class _Lent:
    """What a capsule points to, kept alive until its consumer is done."""

    def __init__(self, owner: Any, shape: tuple[int, ...]) -> None:
        self.owner = owner
        self.shape = (ctypes.c_int64 * max(1, len(shape)))(*shape)
        self.managed = _Managed()


_lent: dict[int, _Lent] = {}  # by address of the managed tensor

_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
# by address: when a capsule's destructor runs, no reference to it may be taken any more
_is_capsule = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi)
)
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def _destroy_capsule_at(capsule: int) -> None:
    if _is_capsule(capsule, b"dltensor"):  # nobody has taken it
        _lent.pop(_pointer_of(capsule, b"dltensor"), None)


def _delete_at(managed: int) -> None:
    _lent.pop(managed, None)


_destroy_capsule = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(_destroy_capsule_at)
_delete = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_delete_at)  # called with or without the interpreter's lock


def capsule(
    owner: Any, address: int, shape: tuple[int, ...], dtype: np.dtype[Any], device: tuple[int, int]
) -> Any:
    """A DLPack capsule for C-contiguous memory.

    Args:
        owner: kept alive as long as the consumer needs the memory.
        address: of the first element.
        shape: the extents.
        dtype: of the elements.
        device: DLPack's device type and the device's ordinal.

    Raises:
        BufferError: DLPack 0.x has no number for the dtype.
    """
    number = next((code for code, known in _TYPES.items() if known == dtype), None)
    if number is None:
        raise BufferError(f"DLPack has no number for dtype {dtype}")
    lent = _Lent(owner, shape)
    tensor = lent.managed.tensor
    tensor.data, tensor.device_type, tensor.device_id = address, *device
    tensor.ndim, (tensor.code, tensor.bits), tensor.lanes = len(shape), number, 1
    tensor.shape = ctypes.cast(lent.shape, ctypes.POINTER(ctypes.c_int64))
    lent.managed.deleter = ctypes.cast(_delete, ctypes.c_void_p)
    key = ctypes.addressof(lent.managed)
    _lent[key] = lent
    return _new_capsule(key, b"dltensor", ctypes.cast(_destroy_capsule, ctypes.c_void_p))
