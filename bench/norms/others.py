"""Other libraries' ways: an all-reduce and an add-norm one after the other, and FlashInfer's fused kernel.

Those for GPUs are written from the libraries' documentation; bench/README.md says which have been run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np

from hipcomm_bench.clock import Prepared, in_turn
from hipcomm_bench.contestants.base import GPUS, Launcher, Unsupported
from hipcomm_bench.contestants.flashinfer import FlashInfer
from hipcomm_bench.contestants.mpi import Mpi, OpenMpi, OpenMpi5
from hipcomm_bench.contestants.nccl import Nccl
from hipcomm_bench.contestants.torch_group import TorchGroup
from hipcomm_bench.data import Buffers
from hipcomm_bench.memory import Array, dtype_of
from hipcomm_bench.norms.ours import AddNorm
from hipcomm_bench.norms.rows import EPS, NormContestant, Result, Rows
from hipcomm_bench.ops import OPS, Call
from hipcomm_bench.session import Session

# FlashInfer's workspace holds so many bytes of rows; engines fuse nothing larger (vLLM on two H200: 64 MiB).
_LARGEST_FUSED = 64 << 20


_NO_CODES = "with quantised outputs it is not measured here"


def _sum_of(rows: Rows) -> tuple[Call, Buffers]:
    """Return the all_reduce of x into `out`."""
    return Call(OPS["all_reduce"], rows.x.dtype, "sum", in_place=False), Buffers(rows.x, rows.out)


# ---- on GPUs -----------------------------------------------------------------------------------------------


class Compiled(NormContestant):
    """torch.compile's add-norm alone, for scale."""

    name: ClassVar[str] = "torch-compile"
    platforms: ClassVar[tuple[str, ...]] = GPUS
    result = Result.LOCAL

    @classmethod
    def why_missing(cls) -> str | None:
        """Return why torch.compile cannot run here, or None."""
        for package in ("torch", "triton"):
            if find_spec(package) is None:
                return f"the Python package {package} is not installed"
        return None

    def __init__(self, session: Session) -> None:
        self._group, self._session = TorchGroup(session), session
        self._compiled: dict[str, Any] = {}
        self.version = f"of torch {self._group.torch.__version__}"

    def prepare(self, rows: Rows) -> Prepared:
        """Return the call."""
        return Prepared(self.add_norm(rows, rows.x), wait=self._session.synchronize)

    def add_norm(self, rows: Rows, x: Any) -> Callable[[], Any]:
        """Return the add-norm of the buffer `x`. Its outputs are the given ones: it allocates nothing."""
        if rows.quantisation is not None:
            raise Unsupported(_NO_CODES)
        if rows.norm not in self._compiled:
            self._compiled[rows.norm] = self._group.torch.compile(_eager(self._group.torch, rows.norm))
        tensors = [self._group.tensor(buffer).view(rows.x.shape) for buffer in (x, rows.residual)]
        outputs = [self._group.tensor(buffer).view(rows.x.shape) for buffer in (rows.out, rows.residual_out)]
        parameters = [self._group.tensor(buffer) for buffer in rows.parameters]
        return partial(self._compiled[rows.norm], *tensors, *outputs, *parameters)

    def close(self) -> None:
        """Leave the process group."""
        self._group.leave()


def _eager(torch: Any, norm: str) -> Callable[..., None]:
    """Return what torch.compile is given: the formula in float32, written to the outputs."""

    def rms_norm(x: Any, residual: Any, out: Any, residual_out: Any, weight: Any) -> None:
        v = x + residual
        wide = v.float()
        s = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPS)
        residual_out.copy_(v)
        out.copy_(wide * s * weight.float())

    def layer_norm(x: Any, residual: Any, out: Any, residual_out: Any, weight: Any, bias: Any) -> None:
        v = x + residual
        wide = v.float()
        d = wide - wide.mean(-1, keepdim=True)
        s = torch.rsqrt(d.pow(2).mean(-1, keepdim=True) + EPS)
        residual_out.copy_(v)
        out.copy_(d * s * weight.float() + bias.float())

    return rms_norm if norm == "rms_norm" else layer_norm


class NcclCompiled(Compiled):
    """NCCL's all-reduce, then torch.compile's add-norm."""

    name: ClassVar[str] = "nccl+torch-compile"
    result = Result.FUSED

    def __init__(self, session: Session) -> None:
        self._nccl = Nccl(session)
        super().__init__(session)
        self.version = f"NCCL {self._nccl.version}, torch {self._group.torch.__version__}"

    def prepare(self, rows: Rows) -> Prepared:
        """Return the two calls."""
        summed = self._nccl.prepare(*_sum_of(rows))
        return Prepared(in_turn(summed.run, self.add_norm(rows, rows.out)), wait=summed.wait)

    def close(self) -> None:
        """Leave both."""
        super().close()
        self._nccl.close()


class NcclHipcomm(AddNorm):
    """NCCL's all-reduce, then hipcomm's add_rms_norm or add_layer_norm."""

    name: ClassVar[str] = "nccl+add-norm"
    platforms: ClassVar[tuple[str, ...]] = GPUS
    ours: ClassVar[bool] = False  # the sums are NCCL's
    result = Result.FUSED

    def __init__(self, session: Session) -> None:
        self._nccl = Nccl(session)
        super().__init__(session)
        self.version = f"NCCL {self._nccl.version}, hipcomm {self.version}"

    def prepare(self, rows: Rows) -> Prepared:
        """Return the two calls."""
        summed = self._nccl.prepare(*_sum_of(rows))
        return Prepared(in_turn(summed.run, self.add_norm(rows, rows.out.array)), wait=summed.wait)

    def close(self) -> None:
        """Leave both."""
        super().close()
        self._nccl.close()


class FlashInferFused(NormContestant):
    """FlashInfer's trtllm_allreduce_fusion, with the pattern that adds the residual and applies RMSNorm."""

    name: ClassVar[str] = "flashinfer"
    platforms: ClassVar[tuple[str, ...]] = ("nvidia",)

    @classmethod
    def why_missing(cls) -> str | None:
        """Return which package is missing, or None."""
        return FlashInfer.why_missing()

    def __init__(self, session: Session) -> None:
        if session.world.size not in (2, 4, 8):
            raise Unsupported("FlashInfer takes 2, 4 or 8 ranks")
        self._session, self._group = session, TorchGroup(session)
        self._comm: Any = import_module("flashinfer.comm")
        self._workspaces: dict[int, tuple[Any, Any]] = {}  # by the length of a row: (handles, tensor)
        self.version = version("flashinfer-python")

    def prepare(self, rows: Rows) -> Prepared:
        """Return the call, with FlashInfer's own choice between one-shot and two-shot."""
        tokens, hidden = rows.x.shape
        if rows.quantisation is not None:
            raise Unsupported(_NO_CODES)
        if rows.norm != "rms_norm":
            raise Unsupported(f"FlashInfer has no fused {rows.norm}")
        if rows.x.nbytes > _LARGEST_FUSED:
            raise Unsupported(f"FlashInfer: up to {_LARGEST_FUSED >> 20} MiB")
        x, residual, out, residual_out = (
            self._group.tensor(buffer).view(rows.x.shape)
            for buffer in (rows.x, rows.residual, rows.out, rows.residual_out)
        )
        run = partial(
            self._comm.trtllm_allreduce_fusion,
            allreduce_in=x,
            world_size=self._session.world.size,
            world_rank=self._session.world.rank,
            token_num=tokens,
            hidden_dim=hidden,
            workspace_ptrs=self._workspace(hidden),
            launch_with_pdl=False,
            trigger_completion_at_end=True,
            fp32_acc=True,
            pattern_code=self._comm.AllReduceFusionPattern.kARResidualRMSNorm,
            use_oneshot=None,
            allreduce_out=None,
            residual_in=residual,
            residual_out=residual_out,
            norm_out=out,
            quant_out=None,
            scale_out=None,
            rms_gamma=self._group.tensor(rows.weight),
            rms_eps=EPS,
            scale_factor=None,
            layout_code=None,
        )
        return Prepared(run, wait=self._session.synchronize)

    def _workspace(self, hidden: int) -> Any:
        """Return the workspace for rows of this length; collective at the first call with it."""
        if hidden not in self._workspaces:
            self._workspaces[hidden] = self._comm.trtllm_create_ipc_workspace_for_all_reduce_fusion(
                self._session.world.rank,
                self._session.world.size,
                max(1, _LARGEST_FUSED // dtype_of(self._session.dtype).itemsize // hidden),
                hidden,
                use_fp32_lamport=self._session.dtype == "float32",
                group=self._group.distributed.group.WORLD,
            )
        return self._workspaces[hidden][1]

    def close(self) -> None:
        """Free the workspaces and leave the process group."""
        for handles, _ in self._workspaces.values():
            self._comm.trtllm_destroy_ipc_workspace_for_all_reduce_fusion(
                handles, group=self._group.distributed.group.WORLD
            )
        self._group.leave()


# ---- on the CPU --------------------------------------------------------------------------------------------


class OpenMpiNumPy(NormContestant):
    """Open MPI's Allreduce, then an add-norm in NumPy, on float32."""

    name: ClassVar[str] = "openmpi+numpy"
    platforms: ClassVar[tuple[str, ...]] = ("cpu",)
    mpi: ClassVar[type[Mpi]] = OpenMpi

    @classmethod
    def launcher(cls) -> Launcher | None:
        """Return Open MPI's mpirun."""
        return cls.mpi.launcher()

    @classmethod
    def why_missing(cls) -> str | None:
        """Return why Open MPI cannot run here, or None."""
        return cls.mpi.why_missing()

    def __init__(self, session: Session) -> None:
        self._mpi = self.mpi(session)
        self.version = f"{self._mpi.version}, NumPy {np.__version__}"

    def prepare(self, rows: Rows) -> Prepared:
        """Return the two calls."""
        if rows.quantisation is not None:
            raise Unsupported(_NO_CODES)
        summed = self._mpi.prepare(*_sum_of(rows))
        arguments = [rows.out.array, rows.residual.array, rows.residual_out.array]
        parameters = [parameter.array for parameter in rows.parameters]
        return Prepared(in_turn(summed.run, partial(_numpy_add_norm, *arguments, *parameters)), capture=False)

    def close(self) -> None:
        """Free the communicator."""
        self._mpi.close()


class OpenMpi5NumPy(OpenMpiNumPy):
    """The same with the Open MPI 5 of PyPI."""

    name: ClassVar[str] = "openmpi5+numpy"
    mpi: ClassVar[type[Mpi]] = OpenMpi5


def _numpy_add_norm(
    out: Array, residual: Array, residual_out: Array, weight: Array, bias: Array | None = None
) -> None:
    """Turn the sums in `out` into the norm, as a careful program does it: no temporary rows."""
    hidden = np.float32(out.shape[1])
    np.add(out, residual, out=residual_out)
    centred = residual_out
    if bias is not None:
        centred = np.subtract(residual_out, residual_out.mean(axis=1, keepdims=True), out=out)
    squares = np.einsum("ij,ij->i", centred, centred)
    s = 1 / np.sqrt(squares / hidden + np.float32(EPS))
    np.multiply(centred, s[:, None], out=out)
    np.multiply(out, weight, out=out)
    if bias is not None:
        np.add(out, bias, out=out)
