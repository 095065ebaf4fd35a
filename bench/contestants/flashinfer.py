"""The contestant FlashInfer: TensorRT-LLM's all-reduce over IPC memory, without multicast."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, ClassVar

from hipcomm_bench.clock import Prepared
from hipcomm_bench.contestants.base import Contestant, Unsupported
from hipcomm_bench.contestants.torch_group import TorchGroup
from hipcomm_bench.data import Buffers
from hipcomm_bench.memory import dtype_of
from hipcomm_bench.ops import Call
from hipcomm_bench.session import Session

# The operation sees a message as tokens of this many elements; inference engines use it up to this size.
_HIDDEN = 512
_LARGEST = 8 << 20


class FlashInfer(Contestant):
    """FlashInfer's trtllm_allreduce_fusion with the pattern that reduces and does nothing else."""

    name: ClassVar[str] = "flashinfer"
    platforms: ClassVar[tuple[str, ...]] = ("nvidia",)

    @classmethod
    def why_missing(cls) -> str | None:
        """Return which of the two packages is missing, or None."""
        for package, distribution in (("flashinfer", "flashinfer-python"), ("torch", "torch")):
            if find_spec(package) is None:
                return f"the Python package {distribution} is not installed"
        return None

    def __init__(self, session: Session) -> None:
        if session.dtype not in ("float16", "bfloat16", "float32"):
            raise Unsupported(f"FlashInfer reduces no {session.dtype}")
        if session.world.size not in (2, 4, 8):
            raise Unsupported("FlashInfer takes 2, 4 or 8 ranks")
        self._session = session
        self._group = TorchGroup(session)
        self._comm: Any = import_module("flashinfer.comm")
        self._tokens = _LARGEST // dtype_of(session.dtype).itemsize // _HIDDEN
        self._handles, self._workspace = self._comm.trtllm_create_ipc_workspace_for_all_reduce_fusion(
            session.world.rank,
            session.world.size,
            self._tokens,
            _HIDDEN,
            use_fp32_lamport=session.dtype == "float32",
            group=self._group.distributed.group.WORLD,
        )
        self.version = version("flashinfer-python")

    def prepare(self, call: Call, buffers: Buffers) -> Prepared:
        """Return this call, with FlashInfer's own choice between one-shot and two-shot."""
        tokens, rest = divmod(buffers.send.count, _HIDDEN)
        if call.op.name != "all_reduce" or call.redop != "sum":
            raise Unsupported("FlashInfer has all_reduce with sum only")
        if call.in_place:
            raise Unsupported("FlashInfer's all_reduce is out of place")
        if rest or not 0 < tokens <= self._tokens:
            raise Unsupported(f"FlashInfer: whole tokens of {_HIDDEN} elements, up to {_LARGEST >> 20} MiB")
        run = partial(
            self._comm.trtllm_allreduce_fusion,
            allreduce_in=self._group.tensor(buffers.send).view(tokens, _HIDDEN),
            world_size=self._session.world.size,
            world_rank=self._session.world.rank,
            token_num=tokens,
            hidden_dim=_HIDDEN,
            workspace_ptrs=self._workspace,
            launch_with_pdl=False,
            trigger_completion_at_end=True,
            fp32_acc=True,
            pattern_code=self._comm.AllReduceFusionPattern.kAllReduce,
            use_oneshot=None,
            allreduce_out=self._group.tensor(buffers.recv).view(tokens, _HIDDEN),
            residual_in=None,
            residual_out=None,
            norm_out=None,
            quant_out=None,
            scale_out=None,
            rms_gamma=None,
            rms_eps=None,
            scale_factor=None,
            layout_code=None,
        )
        return Prepared(run, wait=self._session.synchronize)

    def close(self) -> None:
        """Free the workspace and leave the process group."""
        self._comm.trtllm_destroy_ipc_workspace_for_all_reduce_fusion(
            self._handles, group=self._group.distributed.group.WORLD
        )
        self._group.leave()
