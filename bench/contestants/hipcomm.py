"""The contestant hipcomm: the library of this project."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, ClassVar

from hipcomm_bench.contestants.base import Contestant, Unsupported
from hipcomm_bench.data import Buffers
from hipcomm_bench.ops import Call
from hipcomm_bench.world import HipcommWorld, World


class Hipcomm(Contestant):
    """hipcomm through its Python API, on ordinary (not symmetric) memory."""

    name: ClassVar[str] = "hipcomm"

    @classmethod
    def why_missing(cls) -> str | None:
        """Return why hipcomm cannot run here, or None."""
        return None if find_spec("hipcomm") is not None else "the Python package hipcomm is not installed"

    def __init__(self, world: World) -> None:
        import hipcomm

        self._owns = not isinstance(world, HipcommWorld)
        self._comm: Any = hipcomm.init() if not isinstance(world, HipcommWorld) else world.comm
        try:
            self.version = version("hipcomm")
        except PackageNotFoundError:
            self.version = "from a source tree"

    def prepare(self, call: Call, buffers: Buffers) -> Callable[[], Any]:
        """Return a function that makes this call and waits for the device."""
        comm, send, recv = self._comm, buffers.send, buffers.recv
        method, synchronize = getattr(comm, call.op.name, None), comm.synchronize
        if method is None:
            raise Unsupported(f"this hipcomm has no {call.op.name}")
        keywords = {"op": call.redop} if call.op.reduces else {}
        if call.op.name == "broadcast":
            if not call.in_place:
                raise Unsupported("broadcast is in place")
            arguments: tuple[Any, ...] = (recv,)
        elif call.op.name == "all_to_all" and call.in_place:
            raise Unsupported("all_to_all is out of place")
        else:
            arguments = (send, recv)

        def run() -> None:
            method(*arguments, **keywords)
            synchronize()

        return run

    def close(self) -> None:
        """Close the communicator, unless it is the benchmark's own."""
        if self._owns:
            self._comm.close()
