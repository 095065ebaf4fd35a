"""DLPack: the layout of its capsules, and how to read an array of another library.

Capsules are read with ctypes, both those of DLPack 0.x and versioned ones, without NumPy, which does not
know the types of less than 16 bits and takes every unversioned capsule for read-only:
https://dmlc.github.io/dlpack/latest/c_api.html
"""

from __future__ import annotations

import ctypes
from typing import Any

import ml_dtypes
import numpy as np

from hipcomm.buffers.dtypes import names
from hipcomm.buffers.layout import View
from hipcomm.errors import InvalidArgument

VERSION = (1, 1)  # the first with 8-bit floats; all of 1.x have one layout
READ_ONLY, COPIED = 1, 2  # DLPACK_FLAG_BITMASK_READ_ONLY, _IS_COPIED
PLAIN_NAME, VERSIONED_NAME = b"dltensor", b"dltensor_versioned"

_HOST = {1: "CPU", 3: "pinned by CUDA", 11: "pinned by ROCm"}  # kDLCPU, kDLCUDAHost, kDLROCMHost
_GPU = {2: "CUDA", 10: "ROCm", 13: "managed by CUDA"}  # kDLCUDA, kDLROCM, kDLCUDAManaged
_NO_SYNCHRONISATION = -1  # as a stream: the caller orders its streams, and one may be under capture

TYPES: dict[tuple[int, int], np.dtype[Any]] = {  # by DLDataTypeCode and bits
    **{(0, bits): np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{(1, bits): np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{(2, bits): np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    (4, 16): np.dtype(ml_dtypes.bfloat16),
    (7, 8): np.dtype(ml_dtypes.float8_e3m4),
    (8, 8): np.dtype(ml_dtypes.float8_e4m3),
    (9, 8): np.dtype(ml_dtypes.float8_e4m3b11fnuz),
    (10, 8): np.dtype(ml_dtypes.float8_e4m3fn),
    (11, 8): np.dtype(ml_dtypes.float8_e4m3fnuz),
    (12, 8): np.dtype(ml_dtypes.float8_e5m2),
    (13, 8): np.dtype(ml_dtypes.float8_e5m2fnuz),
    (14, 8): np.dtype(ml_dtypes.float8_e8m0fnu),
}


class Tensor(ctypes.Structure):
    """DLTensor."""

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


class Managed(ctypes.Structure):
    """DLManagedTensor, of DLPack 0.x."""

    _fields_ = (("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


class ManagedVersioned(ctypes.Structure):
    """DLManagedTensorVersioned."""

    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", Tensor),
    )


# Not ctypes.pythonapi: whose argument types other libraries set as they like.
PYTHON = ctypes.PyDLL(None)

_get_pointer = PYTHON.PyCapsule_GetPointer
_get_pointer.restype = ctypes.c_void_p
_get_pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
_is_capsule = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_IsValid", PYTHON)
)


def read(obj: Any, name: str) -> View:
    """The memory of an object with ``__dlpack__``.

    A capsule without a version does not say whether the array is read-only: it is taken for writable.

    Raises:
        InvalidArgument: its library refuses, the memory is neither the host's nor a GPU's, or the dtype is
            not supported.
    """
    kind = type(obj).__name__
    try:
        device_type = int(obj.__dlpack_device__()[0])
        if device_type not in _HOST and device_type not in _GPU:
            raise InvalidArgument(
                f"{name}: {kind} is in memory of DLPack device type {device_type}, "
                "neither the host's nor a GPU's"
            )
        capsule = _capsule(obj, on_host=device_type in _HOST)
    except (AttributeError, TypeError, ValueError, BufferError, RuntimeError) as error:
        raise InvalidArgument(f"{name}: {kind} does not give out its memory: {error}") from error
    tensor, flags = _contents(capsule, name, kind)
    dtype = TYPES.get((tensor.code, tensor.bits)) if tensor.lanes == 1 else None
    if dtype is None:
        known = getattr(obj, "dtype", f"with DLPack's code {tensor.code} and {tensor.bits} bits")
        raise InvalidArgument(f"{name}: dtype {known} is not supported; these are: {names()}")
    dimensions = range(tensor.ndim)
    return View(
        address=(tensor.data or 0) + tensor.byte_offset,
        shape=tuple(tensor.shape[i] for i in dimensions),
        strides=tuple(tensor.strides[i] * dtype.itemsize for i in dimensions) if tensor.strides else None,
        dtype=dtype,
        is_read_only=bool(flags & (READ_ONLY | COPIED)),
        on_host=device_type in _HOST,
        owner=capsule,  # frees itself
    )


def _capsule(obj: Any, on_host: bool) -> Any:
    """A capsule, versioned if the library knows of versions."""
    stream = {} if on_host else {"stream": _NO_SYNCHRONISATION}
    try:
        return obj.__dlpack__(max_version=VERSION, **stream)
    except TypeError:  # a library of before 1.0 has no such argument
        return obj.__dlpack__(**stream)


def _contents(capsule: Any, name: str, kind: str) -> tuple[Tensor, int]:
    """The tensor in a capsule, and its flags."""
    if _is_capsule(capsule, PLAIN_NAME):
        return Managed.from_address(_get_pointer(capsule, PLAIN_NAME)).tensor, 0
    if not _is_capsule(capsule, VERSIONED_NAME):
        raise InvalidArgument(f"{name}: {kind} gives out {type(capsule).__name__}, no DLPack capsule")
    managed = ManagedVersioned.from_address(_get_pointer(capsule, VERSIONED_NAME))
    if managed.major != VERSION[0]:
        raise InvalidArgument(
            f"{name}: {kind} gives out DLPack {managed.major}.{managed.minor}; only 1.x is known here"
        )
    return managed.tensor, managed.flags
