"""The contestant Gloo, through torch.distributed, over TCP on the loopback interface."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, ClassVar

from hipcomm_bench.clock import Prepared
from hipcomm_bench.contestants.base import Contestant, Unsupported, how
from hipcomm_bench.contestants.torch_group import TorchGroup
from hipcomm_bench.data import Buffers
from hipcomm_bench.ops import Call
from hipcomm_bench.session import Session


class Gloo(Contestant):
    """Gloo's collectives on tensors that share the NumPy buffers' memory."""

    name: ClassVar[str] = "gloo"
    platforms: ClassVar[tuple[str, ...]] = ("cpu",)

    @classmethod
    def why_missing(cls) -> str | None:
        """Return why Gloo cannot run here, or None."""
        return None if find_spec("torch") is not None else "the Python package torch is not installed"

    def __init__(self, session: Session) -> None:
        self._group, self._world = TorchGroup(session), session.world
        self._group.torch.set_num_threads(1)
        self.version = f"of torch {self._group.torch.__version__}"

    def prepare(self, call: Call, buffers: Buffers) -> Prepared:
        """Return this call."""
        if call.dtype in ("bfloat16", "uint32", "uint64"):
            raise Unsupported(f"Gloo has no {call.dtype}")
        return Prepared(self._call(call, buffers), capture=False)

    def _call(self, call: Call, buffers: Buffers) -> Callable[[], Any]:
        distributed = self._group.distributed
        recv, send = self._group.tensor(buffers.recv), self._group.tensor(buffers.send)
        if call.op.name == "all_reduce":
            if not call.in_place:
                raise Unsupported("Gloo's all_reduce is in place")
            ops = distributed.ReduceOp
            redops = {"sum": ops.SUM, "max": ops.MAX, "min": ops.MIN, "prod": ops.PRODUCT}
            if call.redop not in redops:
                raise Unsupported(f"Gloo has no {call.redop}")
            return partial(distributed.all_reduce, recv, redops[call.redop])
        if call.op.name == "all_gather" and not call.in_place:
            return partial(distributed.all_gather_into_tensor, recv, send)
        if call.op.name == "all_to_all" and not call.in_place:
            return partial(distributed.all_to_all_single, recv, send)
        if call.op.name == "broadcast" and call.in_place:
            return partial(distributed.broadcast, recv, call.root)
        if call.op.name == "barrier":
            return partial(distributed.barrier)
        world = self._world
        is_root = world.rank == call.root
        if call.op.name == "gather" and not call.in_place:
            parts = list(recv.chunk(world.size)) if is_root else None
            return partial(distributed.gather, send, parts, call.root)
        if call.op.name == "scatter" and not call.in_place:
            parts = list(send.chunk(world.size)) if is_root else None
            return partial(distributed.scatter, recv, parts, call.root)
        raise Unsupported(f"Gloo has no {how(call)}")

    def close(self) -> None:
        """Leave the process group."""
        self._group.leave()
