"""The contestant hipcomm: the library of this project."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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

        self._is_own = not isinstance(world, HipcommWorld)
        self._comm: Any = world.comm if isinstance(world, HipcommWorld) else hipcomm.init()
        try:
            self.version = version("hipcomm")
        except PackageNotFoundError:
            self.version = "from a source tree"

    def prepare(self, call: Call, buffers: Buffers) -> Callable[[], Any]:
        """Return a function that makes this call.

        The buffers are NumPy arrays, so the device is the calling thread, and a call that has returned is
        complete.
        """
        comm, send, recv = self._comm, buffers.send, buffers.recv
        method = getattr(comm, call.op.name, None)
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
        return partial(method, *arguments, **keywords)

    def close(self) -> None:
        """Close the communicator, unless it is the benchmark's own."""
        if self._is_own:
            self._comm.close()
