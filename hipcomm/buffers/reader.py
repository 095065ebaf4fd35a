"""The one reader: what memory an object of any library is, or why it cannot be a buffer.

docs/arrays.md says what happens with which kind; a test walks its table.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any, NoReturn

import numpy as np

from hipcomm.buffers.dtypes import CODES, names, resolve
from hipcomm.buffers.layout import View
from hipcomm.core import ffi
from hipcomm.errors import InvalidArgument

_Pointer: Any = ctypes._Pointer  # the base class of all typed pointers
# What a property of another library may raise in place of the memory
_TROUBLE = (AttributeError, TypeError, ValueError, BufferError, RuntimeError, KeyError, NotImplementedError)


def address_of(obj: Any) -> int | None:
    """The address that *obj* is: an integer, or a pointer of ctypes or cffi; None: it is something else."""
    if isinstance(obj, (int, np.integer)):
        return None if isinstance(obj, bool) else int(obj)
    if isinstance(obj, ctypes.c_void_p):
        return obj.value or 0
    if isinstance(obj, _Pointer):
        return ctypes.cast(obj, ctypes.c_void_p).value or 0
    if isinstance(obj, ffi.CData) and ffi.typeof(obj).kind in ("pointer", "array"):
        return int(ffi.cast("uintptr_t", obj))
    return None


def read(obj: Any, name: str, writable: bool) -> View:
    """The memory of an array of any library.

    Args:
        obj: the array; not an address.
        name: of the argument, for messages.
        writable: whether it is for a result.

    Raises:
        InvalidArgument: it is not an array, or *writable* and it cannot be written to, or its library keeps
            its memory to itself.
    """
    own = getattr(type(obj), "_hipcomm_view", None)
    view = own(obj) if own is not None else _read(obj, name, writable)
    if view.dtype not in CODES:
        raise InvalidArgument(f"{name}: dtype {view.dtype} is not supported; these are: {names()}")
    if writable and view.is_read_only:
        raise InvalidArgument(f"{name}: {type(obj).__name__} of shape {view.shape} is read-only")
    return view


def _read(obj: Any, name: str, writable: bool) -> View:
    if isinstance(obj, np.ndarray):
        return _of_numpy(obj, name)
    if isinstance(obj, type):  # a class has the attributes of its arrays
        _refuse(obj, name)
    if isinstance(obj, np.generic):  # its memory is a copy, and the result would be lost
        raise InvalidArgument(f"{name}: {type(obj).__name__} is a scalar, not an array")
    if _is(obj, "torch", "Tensor"):
        return _of_torch(obj, name)
    if _is(obj, "jax", "Array"):
        return _of_jax(obj, name, writable)
    if _is(obj, "tinygrad", "Tensor"):
        raise InvalidArgument(
            f"{name}: a tinygrad Tensor has no memory of its own: send tensor.data(), receive into "
            "comm.empty() or a NumPy array, and make a Tensor of that"
        )
    for interface, on_host in (("__cuda_array_interface__", None), ("__array_interface__", True)):
        found = _interface(obj, interface)
        if found is not None:
            return _of_interface(obj, found, name, on_host)
    if hasattr(obj, "__dlpack__"):
        return _of_dlpack(obj, name)
    return _of_buffer_protocol(obj, name)


def _is(obj: Any, module: str, name: str) -> bool:
    """Whether *obj* is of a class of a library; if the program has not imported that, it is not."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(obj, kind)


# ---- the libraries that need a word of their own ---------------------------------------------------------


def _of_numpy(array: np.ndarray[Any, Any], name: str) -> View:
    if _is(array, "numpy.ma", "MaskedArray"):
        raise InvalidArgument(
            f"{name}: a masked array's mask would be ignored; pass array.filled(...), or array.data"
        )
    address, is_read_only = array.__array_interface__["data"]
    strides = None if array.flags.c_contiguous else array.strides
    return View(address, array.shape, strides, array.dtype, is_read_only, owner=array)


def _of_torch(tensor: Any, name: str) -> View:
    """By its attributes.

    Its interfaces refuse some dtypes, and make one stream wait for another, which no capture allows.
    """
    torch = sys.modules["torch"]
    try:
        if tensor.requires_grad and torch.is_grad_enabled():
            raise InvalidArgument(
                f"{name}: the tensor requires a gradient, which would not pass this call; pass "
                "tensor.detach(), or call under torch.no_grad()"
            )
        place = tensor.device.type
        if place not in ("cpu", "cuda"):
            raise InvalidArgument(
                f"{name}: the tensor is on device {tensor.device}, which hipcomm cannot reach"
            )
        if tensor.is_neg():
            raise InvalidArgument(f"{name}: the tensor is a negated view; pass tensor.resolve_neg()")
        address = tensor.data_ptr()
        strides, shape = tensor.stride(), tuple(tensor.shape)
    except _TROUBLE as error:
        raise InvalidArgument(
            f"{name}: {type(tensor).__name__} does not give out its memory: {error}"
        ) from error
    try:
        dtype = resolve(tensor.dtype)
    except InvalidArgument as error:
        raise InvalidArgument(f"{name}: {error}") from None
    in_bytes = None if tensor.is_contiguous() else tuple(stride * dtype.itemsize for stride in strides)
    return View(address, shape, in_bytes, dtype, on_host=place == "cpu", owner=tensor)


def _of_jax(array: Any, name: str, writable: bool) -> View:
    if isinstance(array, sys.modules["jax"].core.Tracer):
        raise InvalidArgument(
            f"{name}: a traced JAX array has no memory while its function is being compiled; use "
            "hipcomm.jax, whose functions are compiled with it, or make the call outside jit"
        )
    if writable:
        raise InvalidArgument(
            f"{name}: a JAX array cannot be written to; use hipcomm.jax, whose functions return new ones, or "
            "pass comm.empty(array.shape, array.dtype) and make a JAX array of that with "
            "jax.dlpack.from_dlpack()"
        )
    try:
        array.block_until_ready()
    except _TROUBLE as error:
        raise InvalidArgument(f"{name}: the JAX array has no value: {error}") from error
    interface = _interface(array, "__cuda_array_interface__")
    view = _of_dlpack(array, name) if interface is None else _of_interface(array, interface, name, False)
    return view._replace(is_read_only=True)


# ---- protocols -------------------------------------------------------------------------------------------


def _interface(obj: Any, attribute: str) -> Any:
    """An array interface; None where there is none, or where the library does not give it for this array."""
    try:
        return getattr(obj, attribute, None)
    except _TROUBLE:
        return None


def _of_interface(obj: Any, interface: Any, name: str, on_host: bool | None) -> View:
    """The memory that ``__array_interface__`` or ``__cuda_array_interface__`` describes."""
    try:
        dtype = element_type(obj, interface["typestr"])
        shape = tuple(interface["shape"])
        data, strides = interface.get("data"), interface.get("strides")
        if interface.get("mask") is not None:
            raise InvalidArgument(f"{name}: the mask of {type(obj).__name__} would be ignored")
        if isinstance(data, tuple):
            address, is_read_only = data
        else:  # in the memory of another object, or in its own
            memory = memoryview(obj if data is None else data)
            if data is None and memory.nbytes < int(np.prod(shape, dtype=object)) * dtype.itemsize:
                raise ValueError("its buffer is shorter than its shape")
            address = np.frombuffer(memory, np.uint8).ctypes.data + interface.get("offset", 0)
            is_read_only = memory.readonly
        return View(int(address or 0), shape, strides, dtype, bool(is_read_only), on_host, obj)
    except InvalidArgument as error:
        text = str(error)
        raise InvalidArgument(text if text.startswith(name) else f"{name}: {text}") from None
    except _TROUBLE as error:
        raise InvalidArgument(f"{name}: {type(obj).__name__} is not an array: {error}") from error


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


def _of_dlpack(obj: Any, name: str) -> View:
    from hipcomm.buffers import dlpack  # rarely needed

    view = dlpack.read(obj, name)
    # an Arrow array never changes, but its capsule cannot say so
    return view._replace(is_read_only=True) if type(obj).__module__.startswith("pyarrow") else view


# struct's letters: the kind of a dtype; the itemsize says the rest
_LETTERS = {
    **dict.fromkeys("bhilqn", "int"),
    **dict.fromkeys("BHILQNc", "uint"),  # c: ctypes' way to write bytes
    **dict.fromkeys("efd", "float"),
}


def _of_buffer_protocol(obj: Any, name: str) -> View:
    try:
        memory = memoryview(obj)
    except TypeError:
        _refuse(obj, name)
    except (BufferError, ValueError) as error:  # an mmap that is closed
        raise InvalidArgument(
            f"{name}: {type(obj).__name__} does not give out its memory: {error}"
        ) from error
    letter = memory.format.lstrip("@=<") if memory.itemsize > 1 else memory.format.lstrip("@=<>!")
    if letter not in _LETTERS:
        raise InvalidArgument(
            f"{name}: elements of format {memory.format!r} are not supported; these are: {names()}"
        )
    dtype = np.dtype(f"{_LETTERS[letter]}{8 * memory.itemsize}")
    array = np.asarray(memory)
    strides = None if memory.c_contiguous else array.strides
    return View(array.ctypes.data, array.shape, strides, dtype, memory.readonly, owner=memory)


def _refuse(obj: Any, name: str) -> NoReturn:
    way = ""
    if hasattr(obj, "__array__") and not isinstance(obj, type):
        way = "; numpy.asarray() makes one of it, which may be a copy"
    raise InvalidArgument(f"{name}: {type(obj).__name__} is neither an array nor an address{way}")
