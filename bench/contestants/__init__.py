"""The libraries whose collectives can be measured, by name."""

from __future__ import annotations

from hipcomm_bench.contestants.base import Contestant, Unsupported
from hipcomm_bench.contestants.copies import Copies
from hipcomm_bench.contestants.flashinfer import FlashInfer
from hipcomm_bench.contestants.gloo import Gloo
from hipcomm_bench.contestants.hipcomm import (
    Hipcomm,
    HipcommOneShot,
    HipcommPipelined,
    HipcommStaged,
    HipcommSymmetric,
    HipcommTwoShot,
)
from hipcomm_bench.contestants.mpi import IntelMpi, Mpich, OpenMpi, OpenMpi5
from hipcomm_bench.contestants.nccl import Nccl
from hipcomm_bench.contestants.torch_symm import TorchSymmOneShot, TorchSymmTwoShot

_KINDS: tuple[type[Contestant], ...] = (
    Hipcomm,
    HipcommSymmetric,
    HipcommOneShot,
    HipcommTwoShot,
    HipcommStaged,
    HipcommPipelined,
    Nccl,
    TorchSymmOneShot,
    TorchSymmTwoShot,
    FlashInfer,
    OpenMpi,
    OpenMpi5,
    Mpich,
    IntelMpi,
    Gloo,
    Copies,
)

CONTESTANTS: dict[str, type[Contestant]] = {kind.name: kind for kind in _KINDS}

# One word for several contestants.
GROUPS = {
    "mpi": ("openmpi", "openmpi5", "mpich", "intel-mpi"),
    "torch-symm": ("torch-symm-one-shot", "torch-symm-two-shot"),
    "algorithms": ("hipcomm:one_shot", "hipcomm:two_shot", "hipcomm:staged", "hipcomm:pipelined"),
}

__all__ = ["CONTESTANTS", "GROUPS", "Contestant", "Unsupported"]
