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
        distributed, name, world = self._group.distributed, call.op.name, self._world
        if name == "barrier":
            return partial(distributed.barrier)
        recv, send = self._group.tensor(buffers.recv), self._group.tensor(buffers.send)
        if call.op.reduces and call.in_place and name in ("all_reduce", "reduce"):
            ops = distributed.ReduceOp
            redops = {"sum": ops.SUM, "max": ops.MAX, "min": ops.MIN, "prod": ops.PRODUCT}
            if call.redop not in redops:
                raise Unsupported(f"Gloo has no {call.redop}")
            if name == "reduce":
                return partial(distributed.reduce, send, call.root, redops[call.redop])
            return partial(distributed.all_reduce, recv, redops[call.redop])
        if name == "broadcast" and call.in_place:
            return partial(distributed.broadcast, recv, call.root)
        if call.in_place or call.op.reduces:
            raise Unsupported(f"Gloo has no {how(call)}")
        if name == "all_gather":
            return partial(distributed.all_gather_into_tensor, recv, send)
        if name == "all_to_all":
            return partial(distributed.all_to_all_single, recv, send)
        if name == "all_to_all_v":
            parts = call.op.parts(buffers.recv.count, world.size)
            pairs = [call.op.pair(parts, world.rank, peer) for peer in range(world.size)]
            return partial(distributed.all_to_all_single, recv, send, pairs, pairs)
        is_root = world.rank == call.root
        if name == "gather":
            shares = list(recv.chunk(world.size)) if is_root else None
            return partial(distributed.gather, send, shares, call.root)
        if name == "scatter":
            shares = list(send.chunk(world.size)) if is_root else None
            return partial(distributed.scatter, recv, shares, call.root)
        raise Unsupported(f"Gloo has no {how(call)}")

    def close(self) -> None:
        """Leave the process group."""
        self._group.leave()
