"""DLPack capsules of our own arrays, for other libraries."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from hipcomm.buffers.dlpack import (
    PLAIN_NAME,
    PYTHON,
    TYPES,
    VERSION,
    VERSIONED_NAME,
    Managed,
    ManagedVersioned,
)


class _Lent:
    """What a capsule points to, kept alive until its consumer is done."""

    def __init__(self, owner: Any, shape: tuple[int, ...], managed: Managed | ManagedVersioned) -> None:
        self.owner = owner
        self.shape = (ctypes.c_int64 * max(1, len(shape)))(*shape)
        # consumers of before 1.2 may not take NULL for C order
        strides = [int(np.prod(shape[axis + 1 :], dtype=object)) for axis in range(len(shape))]
        self.strides = (ctypes.c_int64 * max(1, len(shape)))(*strides)
        self.managed = managed


_lent: dict[int, _Lent] = {}  # by address of the managed tensor

_new_capsule = PYTHON.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
# by address: when a capsule's destructor runs, no reference to it may be taken any more
_is_capsule = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", PYTHON))
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", PYTHON)
)


def _destroy_capsule_at(capsule: int) -> None:
    for name in (PLAIN_NAME, VERSIONED_NAME):
        if _is_capsule(capsule, name):  # nobody has taken it
            _lent.pop(_pointer_of(capsule, name), None)


def _delete_at(managed: int) -> None:
    _lent.pop(managed, None)


_destroy_capsule = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(_destroy_capsule_at)
_delete = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_delete_at)  # called with or without the interpreter's lock


def capsule(
    owner: Any,
    address: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    device: tuple[int, int],
    max_version: tuple[int, int] | None,
) -> Any:
    """A DLPack capsule for C-contiguous memory that may be written to.

    Args:
        owner: kept alive as long as the consumer needs the memory.
        address: of the first element.
        shape: the extents.
        dtype: of the elements.
        device: DLPack's device type and the device's ordinal.
        max_version: the newest DLPack that the consumer knows; None: one of before 1.0, without versions.

    Raises:
        BufferError: DLPack has no number for the dtype.
    """
    number = next((code for code, known in TYPES.items() if known == dtype), None)
    if number is None:
        raise BufferError(f"DLPack has no number for dtype {dtype}")
    is_versioned = max_version is not None and max_version >= (1, 0)
    managed: Managed | ManagedVersioned = ManagedVersioned() if is_versioned else Managed()
    if isinstance(managed, ManagedVersioned):
        managed.major, managed.minor = VERSION
    lent = _Lent(owner, shape, managed)
    tensor = managed.tensor
    tensor.data, tensor.device_type, tensor.device_id = address, *device
    tensor.ndim, (tensor.code, tensor.bits), tensor.lanes = len(shape), number, 1
    tensor.shape = ctypes.cast(lent.shape, ctypes.POINTER(ctypes.c_int64))
    tensor.strides = ctypes.cast(lent.strides, ctypes.POINTER(ctypes.c_int64))
    managed.deleter = ctypes.cast(_delete, ctypes.c_void_p)
    key = ctypes.addressof(managed)
    _lent[key] = lent
    name = VERSIONED_NAME if is_versioned else PLAIN_NAME
    return _new_capsule(key, name, ctypes.cast(_destroy_capsule, ctypes.c_void_p))
