"""The contestant Gloo, through torch.distributed, over TCP on the loopback interface."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

from hipcomm_bench.contestants.base import Contestant, Unsupported
from hipcomm_bench.data import Buffers
from hipcomm_bench.ops import Call
from hipcomm_bench.world import World

_TIMEOUT = datetime.timedelta(seconds=60)


class Gloo(Contestant):
    """Gloo's collectives on tensors that share the NumPy buffers' memory."""

    name: ClassVar[str] = "gloo"

    @classmethod
    def why_missing(cls) -> str | None:
        """Return why Gloo cannot run here, or None."""
        return None if find_spec("torch") is not None else "the Python package torch is not installed"

    def __init__(self, world: World) -> None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        torch: Any = import_module("torch")
        distributed: Any = import_module("torch.distributed")
        self._torch, self._distributed = torch, distributed
        torch.set_num_threads(1)
        if world.rank == 0:
            store = distributed.TCPStore("127.0.0.1", 0, is_master=True, timeout=_TIMEOUT)
            world.share(str(store.port))
        else:
            store = distributed.TCPStore("127.0.0.1", int(world.share("")), timeout=_TIMEOUT)
        distributed.init_process_group(
            "gloo", store=store, rank=world.rank, world_size=world.size, timeout=_TIMEOUT
        )
        self._world = world
        self.version = f"of torch {torch.__version__}"

    def prepare(self, call: Call, buffers: Buffers) -> Callable[[], Any]:
        """Return a function that makes this call."""
        torch, distributed = self._torch, self._distributed
        if call.dtype in ("bfloat16", "uint32", "uint64"):
            raise Unsupported(f"no NumPy view of {call.dtype} in torch")
        recv, send = torch.from_numpy(buffers.recv), torch.from_numpy(buffers.send)
        if call.op.name == "all_reduce":
            if not call.in_place:
                raise Unsupported("Gloo's all_reduce is in place")
            ops = distributed.ReduceOp
            redops = {"sum": ops.SUM, "max": ops.MAX, "min": ops.MIN, "prod": ops.PRODUCT}
            if call.redop not in redops:
                raise Unsupported(f"Gloo has no {call.redop}")
            redop = redops[call.redop]
            return partial(distributed.all_reduce, recv, redop)
        if call.op.name == "all_gather" and not call.in_place:
            return partial(distributed.all_gather_into_tensor, recv, send)
        if call.op.name == "all_to_all" and not call.in_place:
            return partial(distributed.all_to_all_single, recv, send)
        if call.op.name == "broadcast" and call.in_place:
            return partial(distributed.broadcast, recv, 0)
        raise Unsupported(f"Gloo has no {'in-place' if call.in_place else 'out-of-place'} {call.op.name}")

    def close(self) -> None:
        """Leave the process group; rank 0's store outlives the others' use of it."""
        self._world.barrier()
        self._distributed.destroy_process_group()
        self._world.barrier()
