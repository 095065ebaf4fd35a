"""Arrays of every kind that docs/arrays.md lists: how to make one, and how to read it."""

from __future__ import annotations

import array
import ctypes
import mmap
import os
import sys
from types import SimpleNamespace
from typing import Any, NamedTuple

import cffi
import numpy as np

ffi = cffi.FFI()
COUNT = 6


class Kind(NamedTuple):
    """One row of the table.

    Attributes:
        make: makes what is passed, of a NumPy array of six float32 that it may keep; ``comm`` comes first.
        needs: the module that it takes.
        read: the numbers in it; None: those of the NumPy array, whose memory it is.
        options: further arguments of the call.
        dtype: of the elements.
        words: what the refusal says.
        count: elements.
    """

    make: Any
    needs: str = ""
    read: Any = None
    options: dict[str, Any] = {}  # noqa: RUF012  nobody changes it
    dtype: str = "float32"
    words: tuple[str, ...] = ()
    count: int = COUNT


class Speaks:
    """An object that has some of an array's attributes and nothing else."""

    def __init__(self, owner: Any, **attributes: Any) -> None:
        self.owner = owner
        self.__dict__.update(attributes)


class OldDlpack:
    """An array that knows nothing of DLPack's versions."""

    def __init__(self, values: Any) -> None:
        self._values = values

    def __dlpack__(self, stream: Any = None) -> Any:
        return self._values.__dlpack__(stream=stream)

    def __dlpack_device__(self) -> Any:
        return self._values.__dlpack_device__()


class NewDlpack(OldDlpack):
    """One that knows them."""

    def __dlpack__(self, stream: Any = None, **options: Any) -> Any:
        assert options["max_version"] >= (1, 0)
        return self._values.__dlpack__(stream=stream, **options)


def read_only(values: Any) -> Any:
    """The same memory, which may not be written to through this."""
    view = values.view()
    view.flags.writeable = False
    return view


def interface(values: Any, attribute: str) -> Any:
    return Speaks(values, **{attribute: values.__array_interface__})


def as_mmap(values: Any) -> Any:
    memory = mmap.mmap(-1, values.nbytes)
    memory[:] = values.tobytes()
    return memory


def as_cupy(comm: Any, values: Any) -> Any:
    """As much of cupy.ndarray as a call looks at."""

    class ArrayOfCupy:
        data, size, shape = SimpleNamespace(ptr=values.ctypes.data), values.size, values.shape
        dtype, strides, flags = values.dtype, values.strides, values.flags
        owner = values

    sys.modules["cupy"] = SimpleNamespace(ndarray=ArrayOfCupy)  # type: ignore[assignment]
    return ArrayOfCupy()


def symmetric(comm: Any, values: Any) -> Any:
    made = comm.empty(values.shape, values.dtype)
    made.from_host(values)
    return made


def torch_tensor(comm: Any, values: Any) -> Any:
    import torch

    return torch.from_numpy(values)


def torch_parameter(comm: Any, values: Any) -> Any:
    import torch

    return torch.nn.Parameter(torch.from_numpy(values))


def jax_array(comm: Any, values: Any) -> Any:
    import jax

    return jax.numpy.array(values)


class InJit:
    """Passed, it is a tracer."""


def pyarrow_buffer(comm: Any, values: Any) -> Any:
    import pyarrow

    return pyarrow.py_buffer(memoryview(values).cast("B"))


def pyarrow_array(comm: Any, values: Any) -> Any:
    import pyarrow

    return pyarrow.array(values)


def tinygrad_tensor(comm: Any, values: Any) -> Any:
    os.environ.setdefault("DEV", "PYTHON")  # needs no compiler
    from tinygrad import Tensor

    return Tensor(values)


def floats(memory: Any) -> Any:
    return np.frombuffer(memory, np.float32)


WITH_ADDRESS = {"count": COUNT, "dtype": "float32"}
KINDS = {
    "NumPy array": Kind(lambda comm, v: v),
    "NumPy masked array": Kind(lambda comm, v: np.ma.masked_equal(v, 1), words=("mask", "filled")),
    "NumPy scalar": Kind(lambda comm, v: v[0], words=("float32 is a scalar",)),
    "`__array_interface__`": Kind(lambda comm, v: interface(v, "__array_interface__")),
    "`__cuda_array_interface__`": Kind(lambda comm, v: interface(v, "__cuda_array_interface__")),
    "CuPy array": Kind(as_cupy),
    "PyTorch tensor": Kind(torch_tensor, "torch"),
    "PyTorch tensor that requires a gradient": Kind(torch_parameter, "torch", words=("detach()", "no_grad")),
    "JAX array": Kind(jax_array, "jax", words=("cannot be written to", "from_dlpack")),
    "JAX array while it is traced": Kind(lambda comm, v: InJit(), "jax", words=("traced", "jit")),
    "DLPack without a version": Kind(lambda comm, v: OldDlpack(v)),
    "DLPack with a version": Kind(lambda comm, v: NewDlpack(v)),
    "DLPack with a version, read-only": Kind(lambda comm, v: NewDlpack(read_only(v)), words=("read-only",)),
    "`comm.empty()`": Kind(symmetric, read=lambda a: a.to_host()),
    "bytes": Kind(lambda comm, v: v.tobytes(), dtype="uint8", words=("bytes", "read-only")),
    "bytearray": Kind(
        lambda comm, v: bytearray(v.tobytes()), read=lambda a: np.frombuffer(a, np.uint8), dtype="uint8"
    ),
    "memoryview": Kind(lambda comm, v: memoryview(v)),
    "`array.array`": Kind(lambda comm, v: array.array("f", v.tolist()), read=floats),
    "`mmap.mmap`": Kind(
        lambda comm, v: as_mmap(v),
        read=lambda a: np.frombuffer(a[:], np.uint8),
        dtype="uint8",
        count=mmap.PAGESIZE,
    ),
    "ctypes array": Kind(lambda comm, v: (ctypes.c_float * COUNT)(*v.tolist()), read=floats),
    "Arrow buffer": Kind(pyarrow_buffer, "pyarrow", dtype="int8"),
    "Arrow array": Kind(pyarrow_array, "pyarrow", words=("read-only",)),
    "tinygrad tensor": Kind(tinygrad_tensor, "tinygrad", words=("tinygrad", "data()")),
    "integer": Kind(lambda comm, v: v.ctypes.data, options=WITH_ADDRESS),
    "`ctypes.c_void_p`": Kind(lambda comm, v: ctypes.c_void_p(v.ctypes.data), options=WITH_ADDRESS),
    "ctypes pointer": Kind(
        lambda comm, v: ctypes.cast(v.ctypes.data, ctypes.POINTER(ctypes.c_float)), options=WITH_ADDRESS
    ),
    "cffi pointer or array": Kind(lambda comm, v: ffi.cast("float *", v.ctypes.data), options=WITH_ADDRESS),
    "list": Kind(lambda comm, v: v.tolist(), words=("list", "neither an array nor an address")),
}
