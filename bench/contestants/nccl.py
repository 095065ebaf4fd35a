"""The contestant NCCL, through its C API; on AMD GPUs RCCL, which has the same."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from hipcomm_bench.clock import Prepared, in_turn
from hipcomm_bench.contestants import nccl_api
from hipcomm_bench.contestants.base import GPUS, Contestant, Unsupported, how
from hipcomm_bench.data import Buffers, whole_of
from hipcomm_bench.ops import Call
from hipcomm_bench.outcome import transfers
from hipcomm_bench.session import Session


class Nccl(Contestant):
    """NCCL on the shared buffers, not registered with it."""

    name: ClassVar[str] = "nccl"
    platforms: ClassVar[tuple[str, ...]] = GPUS

    @classmethod
    def why_missing(cls) -> str | None:
        """Return None: whether the library opens depends on the platform, and shows when it is opened."""
        return None

    def __init__(self, session: Session) -> None:
        library, reason = None, ""
        try:
            library = nccl_api.open_library(session.platform)
        except OSError as error:
            reason = str(error)
        # before any rank waits in ncclCommInitRank for a rank that has no library
        for rank, problem in enumerate(session.world.texts(reason)):
            if problem:
                raise OSError(f"rank {rank}: {problem}")
        assert library is not None
        self._library, self._session = library, session
        self.version = library.version()
        unique_id = nccl_api.UniqueId()
        if session.world.rank == 0:
            library.ncclGetUniqueId(ctypes.byref(unique_id))
        shared = bytes.fromhex(session.world.share(bytes(unique_id).hex()))
        self._comm = ctypes.c_void_p()
        library.ncclCommInitRank(
            ctypes.byref(self._comm),
            session.world.size,
            nccl_api.UniqueId.from_buffer_copy(shared),
            session.world.rank,
        )

    def prepare(self, call: Call, buffers: Buffers) -> Prepared:
        """Return this call, its arguments converted to C beforehand."""
        library = self._library
        if (call.op.name, call.in_place) == ("all_to_all", True):
            raise Unsupported(f"NCCL has no {how(call)}")
        if call.op.name == "all_to_all" and not hasattr(library, "ncclAlltoAll"):
            raise Unsupported(f"NCCL {library.version()} has no ncclAlltoAll")
        send, recv = ctypes.c_void_p(buffers.send.address), ctypes.c_void_p(buffers.recv.address)
        dtype = nccl_api.DTYPES[call.dtype]
        tail = (self._comm, ctypes.c_void_p(self._session.stream))
        count = {
            "reduce_scatter": buffers.recv.count,
            "all_to_all": buffers.send.count // self._session.world.size,
        }.get(call.op.name, buffers.send.count)
        run: Callable[[], Any]
        if call.op.name == "reduce":
            redop = nccl_api.REDOPS[call.redop]
            run = partial(library.ncclReduce, send, recv, count, dtype, redop, call.root, *tail)
        elif call.op.reduces:
            function = library.ncclAllReduce if call.op.name == "all_reduce" else library.ncclReduceScatter
            run = partial(function, send, recv, count, dtype, nccl_api.REDOPS[call.redop], *tail)
        elif call.op.name == "broadcast":
            run = partial(library.ncclBroadcast, send, recv, count, dtype, call.root, *tail)
        elif call.op.name not in ("all_gather", "all_to_all"):
            run = self._group(call, buffers, dtype, tail)
        else:
            function = library.ncclAllGather if call.op.name == "all_gather" else library.ncclAlltoAll
            run = partial(function, send, recv, count, dtype, *tail)
        return Prepared(run, wait=self._wait)

    def _group(self, call: Call, buffers: Buffers, dtype: int, tail: tuple[Any, ...]) -> Callable[[], Any]:
        """Return a group of sends and receives, as nccl-tests makes these operations."""
        if not call.op.moves:
            raise Unsupported(f"NCCL has no {call.op.name}")
        rank, size, library = self._session.world.rank, self._session.world.size, self._library
        itemsize = buffers.send.itemsize
        sent, received = transfers(call, whole_of(call, buffers, size), rank, size)
        calls: list[Callable[[], Any]] = [library.ncclGroupStart]
        for function, buffer, parts in (
            (library.ncclSend, buffers.send, sent),
            (library.ncclRecv, buffers.recv, received),
        ):
            for peer, start, count in parts:
                address = ctypes.c_void_p(buffer.address + start * itemsize)
                calls.append(partial(function, address, count, dtype, peer, *tail))
        return in_turn(*calls, library.ncclGroupEnd)

    def _wait(self) -> None:
        self._session.synchronize()
        self._library.raise_async_error(self._comm)

    def close(self) -> None:
        """Destroy the communicator."""
        self._library.ncclCommDestroy(self._comm)
