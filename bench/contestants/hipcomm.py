"""The contestant hipcomm: the library of this project; with one algorithm forced; on symmetric memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import hipcomm
from hipcomm_bench.clock import Prepared, nothing
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
    algorithm: ClassVar[str | None] = None  # None: what HIPCOMM_ALGORITHM says

    @classmethod
    def why_missing(cls) -> str | None:
        """Return None: the benchmark itself needs hipcomm."""
        return None

    def __init__(self, session: Session) -> None:
        self._comm = session.communicator(self.name, self.algorithm)
        self._stream = session.stream
        self.version = hipcomm.__version__

    def prepare(self, call: Call, buffers: Buffers) -> Prepared:
        """Return this call, made with arrays: NumPy's, or ones that say where they are on the device."""
        return self._call(call, buffers.send.array, buffers.recv.array)

    def _call(self, call: Call, send: Any, recv: Any, load: Any = nothing, store: Any = nothing) -> Prepared:
        method: Callable[..., None] | None = getattr(self._comm, call.op.name, None)
        if method is None:
            raise Unsupported(f"this hipcomm has no {call.op.name}")
        if (call.op.name, call.in_place) in (("broadcast", False), ("all_to_all", True)):
            raise Unsupported(f"there is no {how(call)}")
        buffers = (recv,) if call.op.name == "broadcast" else (send, recv)
        if call.in_place and call.op.name == "all_reduce":
            buffers = (recv,)
        keywords: dict[str, Any] = {"op": call.redop} if call.op.reduces else {}
        wait: Callable[[], Any] = nothing
        if self._stream is not None:
            keywords["stream"] = self._stream
            wait = partial(self._comm.synchronize, stream=self._stream)
        return Prepared(partial(method, *buffers, **keywords), load, store, wait)

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
