"""The contestant hipcomm: the library of this project; with one algorithm forced; on symmetric memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import hipcomm
from hipcomm_bench.clock import Prepared, in_turn, nothing
from hipcomm_bench.contestants.base import Contestant, Unsupported, how
from hipcomm_bench.data import Buffers
from hipcomm_bench.memory import copy_on_device
from hipcomm_bench.ops import Call
from hipcomm_bench.session import Session


class Hipcomm(Contestant):
    """hipcomm through its Python API, on ordinary (not symmetric) memory."""

    name: ClassVar[str] = "hipcomm"
    platforms: ClassVar[tuple[str, ...]] = ("amd", "nvidia", "cpu")
    ours: ClassVar[bool] = True
    any_dimension: ClassVar[bool] = True
    algorithm: ClassVar[str | None] = None  # None: what HIPCOMM_ALGORITHM says

    @classmethod
    def why_missing(cls) -> str | None:
        """Return None: the benchmark itself needs hipcomm."""
        return None

    def __init__(self, session: Session) -> None:
        self._comm = session.communicator(self.name, self.algorithm)
        self._stream, self._host_is_device = session.stream, session.device.host_is_device
        self.version = hipcomm.__version__

    def prepare(self, call: Call, buffers: Buffers) -> Prepared:
        """Return this call, made with arrays: NumPy's, or ones that say where they are on the device."""
        return self._call(call, buffers.send.array, buffers.recv.array)

    def _call(self, call: Call, send: Any, recv: Any, load: Any = nothing, store: Any = nothing) -> Prepared:
        if call.op.name == "broadcast" and not call.in_place:
            raise Unsupported(f"there is no {how(call)}")
        stream: dict[str, Any] = {} if self._stream is None else {"stream": self._stream}
        wait = partial(self._comm.synchronize, **stream) if stream else nothing
        if call.op.name == "send_recv":
            return Prepared(self._exchange(send, recv, stream), load, store, wait)
        buffers, keywords = self._arguments(call, send, recv)
        method = getattr(self._comm, "all_to_all" if call.op.name == "all_to_all_v" else call.op.name)
        return Prepared(partial(method, *buffers, **keywords, **stream), load, store, wait)

    def _arguments(self, call: Call, send: Any, recv: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return buffers and what else the method takes."""
        comm, name = self._comm, call.op.name
        keywords: dict[str, Any] = {"op": call.redop} if call.op.reduces else {}
        if name in ("reduce", "broadcast", "gather", "scatter"):
            keywords["root"] = call.root
        if call.dim:
            keywords["dim"] = call.dim
        if name == "barrier":
            return (), keywords
        if name == "broadcast" or (name == "all_reduce" and call.in_place):
            return (recv,), keywords
        if call.op.unequal:
            parts = call.op.parts(recv.size, comm.world_size)
            if name == "all_gather_v":
                return (send, recv, parts), keywords
            counts = [call.op.pair(parts, comm.rank, peer) for peer in range(comm.world_size)]
            return (send, recv, counts, counts), keywords
        if comm.rank != call.root and name in ("reduce", "gather"):
            recv = None
        if comm.rank != call.root and name == "scatter":
            send = None
        return (send, recv), keywords

    def _exchange(self, send: Any, recv: Any, stream: dict[str, Any]) -> Callable[[], Any]:
        """Return a send to the next rank and a receive from the one before, which do not wait for each other.

        On GPUs in a group. On the CPU, where a group costs threads, even ranks send first.
        """
        comm, size = self._comm, self._comm.world_size
        if size < 2:
            raise Unsupported("it needs another rank")
        calls = [
            partial(comm.send, send, (comm.rank + 1) % size, **stream),
            partial(comm.recv, recv, (comm.rank - 1) % size, **stream),
        ]
        if self._host_is_device:
            return in_turn(*(calls if comm.rank % 2 == 0 else reversed(calls)))

        def run() -> None:
            with comm.group():
                for call in calls:
                    call()

        return run

    def close(self) -> None:
        """Close the communicator."""
        self._comm.close()


class HipcommOneShot(Hipcomm):
    """hipcomm with HIPCOMM_ALGORITHM=one_shot, on its own communicator."""

    name: ClassVar[str] = "hipcomm:one_shot"
    algorithm: ClassVar[str | None] = "one_shot"


class HipcommTwoShot(Hipcomm):
    """hipcomm with HIPCOMM_ALGORITHM=two_shot, on its own communicator."""

    name: ClassVar[str] = "hipcomm:two_shot"
    algorithm: ClassVar[str | None] = "two_shot"


class HipcommStaged(Hipcomm):
    """hipcomm with HIPCOMM_ALGORITHM=staged, on its own communicator."""

    name: ClassVar[str] = "hipcomm:staged"
    algorithm: ClassVar[str | None] = "staged"


class HipcommPipelined(Hipcomm):
    """hipcomm with HIPCOMM_ALGORITHM=pipelined, on its own communicator."""

    name: ClassVar[str] = "hipcomm:pipelined"
    algorithm: ClassVar[str | None] = "pipelined"


class HipcommSymmetric(Hipcomm):
    """hipcomm on buffers from comm.empty(), into which the input is copied beforehand."""

    name: ClassVar[str] = "hipcomm-symm"

    @classmethod
    def why_missing(cls) -> str | None:
        """Return why there is no symmetric memory, or None."""
        return None if hasattr(hipcomm.Communicator, "empty") else "this hipcomm has no symmetric memory"

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._whole = [self._comm.empty((session.largest,), "uint8") for _ in range(2)]

    def prepare(self, call: Call, buffers: Buffers) -> Prepared:
        """Return this call on the parts of the symmetric buffers that correspond to these."""
        source, target = buffers.send, buffers.recv
        bases = [int(whole.data_ptr) for whole in self._whole]
        send, recv = source.at(bases[1 if call.in_place else 0]), target.at(bases[1])
        load = partial(copy_on_device, send.address, source.address, source.nbytes)
        store = partial(copy_on_device, target.address, recv.address, target.nbytes)
        return self._call(call, send, recv, load, store)

    def close(self) -> None:
        """Close the communicator, and with it the symmetric memory."""
        self._whole.clear()
        super().close()
