"""The carriers ``nccl`` and ``rccl``: grouped ncclSend and ncclRecv of the library that is found at run time.

All calls are non-blocking (ncclConfig_t's blocking = 0): each is asked about until it has been enqueued, the
job fails, or the time is over. What it moves is ordered by the stream, and can be captured.
"""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hipcomm import _wire as wire
from hipcomm.core import ffi
from hipcomm.errors import PlatformError
from hipcomm.nodes.carrier import COLLECTIVES, Transfer
from hipcomm.nodes.failures import Failures
from hipcomm.nodes.model import Link
from hipcomm.rendezvous.ranks import Ranks
from hipcomm.waiting import pause

log = logging.getLogger("hipcomm")

_MOST_CLOSING = 5.0  # seconds that close() gives the library; a second is ample where no graphs are left
_LIBRARIES = {"nccl": ("libnccl.so.2", "libnccl.so"), "rccl": ("librccl.so.1", "librccl.so")}
_SUCCESS, _IN_PROGRESS = 0, 7  # ncclResult_t
_UINT8 = 1  # ncclDataType_t
_MAGIC, _VERSION = 0xCAFEBEEF, 21400  # of the ncclConfig_t below, which later libraries take as well


class _UniqueId(ctypes.Structure):
    _fields_ = (("internal", ctypes.c_char * 128),)


class _Config(ctypes.Structure):
    """ncclConfig_t as of NCCL 2.14."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("magic", ctypes.c_uint),
        ("version", ctypes.c_uint),
        ("blocking", ctypes.c_int),
    )


_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_FUNCTIONS: dict[str, list[Any]] = {
    "ncclGetUniqueId": [ctypes.POINTER(_UniqueId)],
    "ncclCommInitRankConfig": [
        *(ctypes.POINTER(_POINTER), _INT, _UniqueId, _INT, ctypes.POINTER(_Config)),
    ],
    "ncclCommGetAsyncError": [_POINTER, ctypes.POINTER(_INT)],
    "ncclCommAbort": [_POINTER],
    "ncclGroupStart": [],
    "ncclGroupEnd": [],
    "ncclSend": [_POINTER, _SIZE, _INT, _INT, _POINTER, _POINTER],
    "ncclRecv": [_POINTER, _SIZE, _INT, _INT, _POINTER, _POINTER],
}


def _load(name: str) -> ctypes.CDLL:
    """Open the library: the dynamic linker's, else that of PyPI's nvidia-nccl. Raises PlatformError."""
    candidates = list(_LIBRARIES[name])
    package = importlib.util.find_spec("nvidia")
    for root in (package.submodule_search_locations or []) if package else []:
        candidates += map(str, Path(root).glob(f"{name}/lib/lib{name}.so*"))
    problems = []
    for candidate in candidates:
        try:
            library = ctypes.CDLL(candidate)
        except OSError as error:
            problems.append(str(error))
            continue
        for function, arguments in _FUNCTIONS.items():
            if not hasattr(library, function):
                raise PlatformError(f"{candidate} has no {function}: NCCL 2.14 or newer is needed")
            getattr(library, function).argtypes = arguments
        library.ncclGetErrorString.restype = ctypes.c_char_p
        return library
    raise PlatformError(f"the carrier {name} needs its library: {'; '.join(problems)}")


class NcclCarrier:
    """Carries the bytes of one communicator; see :class:`~hipcomm.nodes.carrier.Carrier`."""

    is_stream_ordered = True
    link = Link(latency=20e-6, bandwidth=25e9)  # one fast network card for each node; not measured

    def __init__(self, name: str, ranks: Ranks, failures: Failures) -> None:
        """See :func:`hipcomm.nodes.choice.make`."""
        self.name = name
        self._failures = failures
        # one for each channel: a message may be received after a collective that it was sent before
        self._comms = [_POINTER(), _POINTER()]
        self._lock = threading.Lock()
        self._is_over = False
        self._failures.operation = "init"
        size, problem = ctypes.sizeof(_UniqueId), ""
        ids = [_UniqueId() for _ in self._comms]
        try:
            self._library = _load(name)
            for unique in ids if ranks.rank == 0 else ():
                self._check("ncclGetUniqueId", self._library.ncclGetUniqueId(ctypes.byref(unique)))
        except PlatformError as error:
            problem = str(error)
        first = ranks.agree(wire.TAG_CARRIER, problem, b"".join(map(bytes, ids)))[0]
        config = _Config(ctypes.sizeof(_Config), _MAGIC, _VERSION, 0)
        for channel, comm in enumerate(self._comms):
            unique = _UniqueId.from_buffer_copy(first, channel * size)
            result = self._library.ncclCommInitRankConfig(
                ctypes.byref(comm), ranks.world_size, unique, ranks.rank, ctypes.byref(config)
            )
            self._await("ncclCommInitRankConfig", result, comm, range(ranks.world_size))

    def exchange(
        self, sends: Sequence[Transfer], receives: Sequence[Transfer], stream: Any, channel: int = COLLECTIVES
    ) -> None:
        """As the interface says."""
        library, comm, handle = self._library, self._comms[channel], int(ffi.cast("uintptr_t", stream))
        self._check("ncclGroupStart", library.ncclGroupStart())
        for function, transfers in (("ncclSend", sends), ("ncclRecv", receives)):
            for peer, address, nbytes in transfers:
                result = getattr(library, function)(address, nbytes, _UINT8, peer, comm, handle)
                self._check(function, result)
        peers = [transfer.peer for transfer in (*receives, *sends)]
        self._await("ncclGroupEnd", library.ncclGroupEnd(), comm, peers)

    def _await(self, function: str, result: int, comm: ctypes.c_void_p, peers: Sequence[int]) -> None:
        """Until what *function* has begun is on the stream."""
        deadline = time.monotonic() + self._failures.timeout
        state = _INT(result)
        while state.value == _IN_PROGRESS:
            self._failures.check_wait(lambda: peers, deadline)
            pause()
            with self._lock:  # abort() takes the communicator away
                if self._is_over:
                    continue
                result = self._library.ncclCommGetAsyncError(comm, ctypes.byref(state))
            self._check("ncclCommGetAsyncError", result)
        self._check(function, state.value)

    def _check(self, function: str, result: int) -> None:
        if result in (_SUCCESS, _IN_PROGRESS):
            return
        text = self._library.ncclGetErrorString(result).decode(errors="replace")
        self._failures.explain(PlatformError(f"{self.name}: {function}: {text} ({result})"))

    def abort(self) -> None:
        """Have the library's kernels leave, in a thread: it may take its time."""
        self._start_to_end()

    def close(self) -> None:
        """Free the communicator; ncclCommDestroy would wait for all ranks.

        The library waits, without a bound, for graphs that have its calls in them. This does not: it then
        leaves the library to its thread, and says what to do.
        """
        ending = self._start_to_end()
        ending.join(_MOST_CLOSING)
        if ending.is_alive():
            log.warning(
                "%s has not freed its communicator after %g s: destroy the graphs that calls of a world over "
                "nodes have been captured in, before close()",
                self.name,
                _MOST_CLOSING,
            )

    def _start_to_end(self) -> threading.Thread:
        ending = threading.Thread(target=self._end, name=f"hipcomm-{self.name}-abort", daemon=True)
        ending.start()
        return ending

    def _end(self) -> None:
        with self._lock:  # _await() asks about none of them from here on
            comms = [] if self._is_over else self._comms
            self._is_over = True
        for comm in comms:
            if comm:
                self._library.ncclCommAbort(comm)
