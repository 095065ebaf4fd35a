"""NCCL's C API, as much as the benchmark calls, through ctypes. RCCL has the same functions and numbers."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

UNIQUE_ID_BYTES = 128  # NCCL_UNIQUE_ID_BYTES

# ncclDataType_t and ncclRedOp_t, by the names that the benchmark uses.
DTYPES = {
    "int8": 0,
    "uint8": 1,
    "int32": 2,
    "uint32": 3,
    "int64": 4,
    "uint64": 5,
    "float16": 6,
    "float32": 7,
    "float64": 8,
    "bfloat16": 9,
}
REDOPS = {"sum": 0, "prod": 1, "max": 2, "min": 3, "avg": 4}

_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int


class UniqueId(ctypes.Structure):
    """ncclUniqueId, which the C API passes by value."""

    _fields_ = [("internal", ctypes.c_char * UNIQUE_ID_BYTES)]


class NcclError(RuntimeError):
    """A function returned something else than ncclSuccess."""


# Arguments of the functions that return ncclResult_t. ncclAlltoAll came with NCCL 2.28.
_FUNCTIONS: dict[str, list[Any]] = {
    "ncclGetVersion": [ctypes.POINTER(_INT)],
    "ncclGetUniqueId": [ctypes.POINTER(UniqueId)],
    "ncclCommInitRank": [ctypes.POINTER(_POINTER), _INT, UniqueId, _INT],
    "ncclCommDestroy": [_POINTER],
    "ncclCommGetAsyncError": [_POINTER, ctypes.POINTER(_INT)],
    "ncclAllReduce": [_POINTER, _POINTER, _SIZE, _INT, _INT, _POINTER, _POINTER],
    "ncclReduceScatter": [_POINTER, _POINTER, _SIZE, _INT, _INT, _POINTER, _POINTER],
    "ncclAllGather": [_POINTER, _POINTER, _SIZE, _INT, _POINTER, _POINTER],
    "ncclAlltoAll": [_POINTER, _POINTER, _SIZE, _INT, _POINTER, _POINTER],
    "ncclBroadcast": [_POINTER, _POINTER, _SIZE, _INT, _INT, _POINTER, _POINTER],
    "ncclReduce": [_POINTER, _POINTER, _SIZE, _INT, _INT, _INT, _POINTER, _POINTER],
    "ncclSend": [_POINTER, _SIZE, _INT, _INT, _POINTER, _POINTER],
    "ncclRecv": [_POINTER, _SIZE, _INT, _INT, _POINTER, _POINTER],
    "ncclGroupStart": [],
    "ncclGroupEnd": [],
}


class Library:
    """The functions of one libnccl or librccl, under their own names; each raises NcclError."""

    def __init__(self, path: str) -> None:
        """Open the library. Raises OSError where it or something it needs is not there."""
        self._library = ctypes.CDLL(path)
        self._library.ncclGetErrorString.restype = ctypes.c_char_p
        self._library.ncclGetErrorString.argtypes = [_INT]
        for name, arguments in _FUNCTIONS.items():
            function = getattr(self._library, name, None)
            if function is not None:
                function.argtypes = arguments
                function.restype = _INT
                function.errcheck = self._checker(name)
                setattr(self, name, function)

    def __getattr__(self, name: str) -> Any:
        """Tell which function an old library lacks."""
        raise AttributeError(f"this library has no {name}")

    def version(self) -> str:
        """Return the version, such as 2.28.9."""
        code = ctypes.c_int()
        self.ncclGetVersion(ctypes.byref(code))
        major, rest = divmod(code.value, 10000)
        return f"{major}.{rest // 100}.{rest % 100}"

    def raise_async_error(self, comm: Any) -> None:
        """Raise what has gone wrong on a communicator since."""
        state = ctypes.c_int()
        self.ncclCommGetAsyncError(comm, ctypes.byref(state))
        self._checker("the communicator")(state.value, None, ())

    def _checker(self, name: str) -> Any:
        def check(result: int, _function: Any, _arguments: Any) -> None:
            if result:
                reason = self._library.ncclGetErrorString(result)
                raise NcclError(f"{name}: {reason.decode(errors='replace')} ({result})")

        return check


def candidates(platform: str) -> Iterator[str]:
    """Yield where the library may be: Python's packages (NVIDIA's), then wherever the loader looks."""
    if platform == "amd":
        yield from ("librccl.so.1", "/opt/rocm/lib/librccl.so.1")
        return
    package = find_spec("nvidia")
    for directory in (package.submodule_search_locations or []) if package is not None else []:
        path = Path(directory, "nccl", "lib", "libnccl.so.2")
        if path.exists():
            yield str(path)
    yield "libnccl.so.2"


def open_library(platform: str) -> Library:
    """Open the first library that opens. Raises OSError with the last reason."""
    reason: OSError | None = None
    for path in candidates(platform):
        try:
            return Library(path)
        except OSError as error:
            reason = error
    raise OSError(f"no NCCL library could be opened: {reason}")
