"""The contestants torch symmetric memory, one-shot and two-shot, without multicast.

The operators read their input from memory that torch has allocated and exchanged. The input is copied
there beforehand, which is not timed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

from hipcomm_bench.clock import Prepared, nothing
from hipcomm_bench.contestants.base import GPUS, Contestant, Unsupported, how
from hipcomm_bench.contestants.torch_group import TorchGroup
from hipcomm_bench.data import Buffers
from hipcomm_bench.memory import copy_on_device, dtype_of
from hipcomm_bench.ops import Call
from hipcomm_bench.session import Session


class _TorchSymm(Contestant):
    """What both have in common: a symmetric buffer as large as the largest message."""

    platforms: ClassVar[tuple[str, ...]] = GPUS

    @classmethod
    def why_missing(cls) -> str | None:
        """Return why torch cannot run here, or None."""
        return None if find_spec("torch") is not None else "the Python package torch is not installed"

    def __init__(self, session: Session) -> None:
        # its own allocation, so that the operators' offsets are those of the tensor
        os.environ.setdefault("TORCH_SYMMMEM_IMPLICIT_POOL", "0")
        self._session = session
        self._group = TorchGroup(session)
        memory: Any = import_module("torch.distributed._symmetric_memory")
        count = max(1, session.largest // dtype_of(session.dtype).itemsize)
        self._whole = memory.empty(count, dtype=self._group.dtype(session.dtype), device=self._group.device)
        self._handle = memory.rendezvous(self._whole, self._group.name)
        self._operators = self._group.torch.ops.symm_mem
        self.version = f"of torch {self._group.torch.__version__}"

    def prepare(self, call: Call, buffers: Buffers) -> Prepared:
        """Return this call. Its input is the start of the symmetric buffer."""
        if call.op.reduces and call.redop != "sum":
            raise Unsupported(f"torch symmetric memory has no {call.redop}")
        if call.op.reduces and call.dtype not in ("bfloat16", "float32"):
            raise Unsupported(f"torch symmetric memory reduces no {call.dtype}")
        symmetric = self._whole[: buffers.send.count]
        run, in_symmetric = self._operation(call, buffers, symmetric)
        base, send, recv = int(symmetric.data_ptr()), buffers.send, buffers.recv
        load = partial(copy_on_device, base, send.address, send.nbytes)
        store = partial(copy_on_device, recv.address, base, recv.nbytes) if in_symmetric else nothing
        return Prepared(run, load, store, self._session.synchronize)

    def _operation(self, call: Call, buffers: Buffers, symmetric: Any) -> tuple[Callable[[], Any], bool]:
        """Return the call on `symmetric`, and whether its result is there too. Raises Unsupported."""
        raise NotImplementedError

    def close(self) -> None:
        """Free the buffer and leave the process group."""
        self._session.world.barrier()  # a peer may still read it
        del self._handle, self._whole
        self._group.leave()


class TorchSymmOneShot(_TorchSymm):
    """Every rank reads what it needs from all others: one kernel, or copies between two barriers."""

    name: ClassVar[str] = "torch-symm-one-shot"

    def _operation(self, call: Call, buffers: Buffers, symmetric: Any) -> tuple[Callable[[], Any], bool]:
        if call.in_place:
            raise Unsupported(f"torch symmetric memory's one-shot has no {how(call)}")
        out = self._group.tensor(buffers.recv)
        if call.op.name == "all_reduce":
            operator = self._operators.one_shot_all_reduce_out
            return partial(operator, symmetric, "sum", self._group.name, out), False
        if call.op.name == "reduce_scatter":
            if not hasattr(self._operators, "reduce_scatter_out"):
                raise Unsupported("this torch has no reduce_scatter on symmetric memory")
            if self._session.world.size not in (2, 4, 8):
                raise Unsupported("torch's reduce_scatter on symmetric memory takes 2, 4 or 8 ranks")
            operator = self._operators.reduce_scatter_out
            return partial(operator, symmetric, self._group.name, False, out), False
        return partial(
            self._pull, self._sources(call, buffers), list(out.chunk(self._session.world.size))
        ), False

    def _sources(self, call: Call, buffers: Buffers) -> list[Any]:
        """Return what this rank reads from each rank, as tensors that lie in the peers' memory."""
        world = self._session.world
        share = buffers.recv.count // world.size
        dtype = self._group.dtype(call.dtype)
        if call.op.name == "all_gather":
            return [self._handle.get_buffer(peer, (share,), dtype) for peer in range(world.size)]
        if call.op.name == "all_to_all":
            offset = world.rank * share
            return [self._handle.get_buffer(peer, (share,), dtype, offset) for peer in range(world.size)]
        raise Unsupported(f"torch symmetric memory has no {call.op.name}")

    def _pull(self, sources: list[Any], targets: list[Any]) -> None:
        """Copy from all peers, the own part first, so that not all read from the same rank at once."""
        rank, size = self._session.world.rank, self._session.world.size
        self._handle.barrier(channel=0)
        for step in range(size):
            peer = (rank + step) % size
            targets[peer].copy_(sources[peer])
        self._handle.barrier(channel=0)


class TorchSymmTwoShot(_TorchSymm):
    """Every rank reduces its share, then collects or writes the others'."""

    name: ClassVar[str] = "torch-symm-two-shot"

    def _operation(self, call: Call, buffers: Buffers, symmetric: Any) -> tuple[Callable[[], Any], bool]:
        if call.op.name != "all_reduce":
            raise Unsupported(f"torch symmetric memory has no two-shot {call.op.name}")
        if call.in_place:
            operator = self._operators.two_shot_all_reduce_
            return partial(operator, symmetric, "sum", self._group.name), True
        if not hasattr(self._operators, "two_shot_all_reduce_out"):
            raise Unsupported("this torch has no out-of-place two-shot all_reduce")
        if self._session.world.size not in (2, 4, 8):
            raise Unsupported("torch's out-of-place two-shot all_reduce takes 2, 4 or 8 ranks")
        operator = self._operators.two_shot_all_reduce_out
        out = self._group.tensor(buffers.recv)
        return partial(operator, symmetric, "sum", self._group.name, out), False
