"""Who can take part in the fused operation, by name."""

from __future__ import annotations

from hipcomm_bench.norms.others import (
    Compiled,
    FlashInferFused,
    NcclCompiled,
    NcclHipcomm,
    OpenMpi5NumPy,
    OpenMpiNumPy,
)
from hipcomm_bench.norms.ours import AddNorm, AllReduce, Hipcomm, OneShot, Pair, Pipelined, Staged
from hipcomm_bench.norms.rows import NormContestant

_KINDS: tuple[type[NormContestant], ...] = (
    Hipcomm,
    Pair,
    AllReduce,
    AddNorm,
    NcclCompiled,
    NcclHipcomm,
    FlashInferFused,
    Compiled,
    OpenMpiNumPy,
    OpenMpi5NumPy,
    OneShot,
    Staged,
    Pipelined,
)

NORM_CONTESTANTS: dict[str, type[NormContestant]] = {kind.name: kind for kind in _KINDS}

NORM_GROUPS = {
    "algorithms": ("hipcomm:one_shot", "hipcomm:staged", "hipcomm:pipelined"),
    "all": tuple(name for name in NORM_CONTESTANTS if not name.startswith("hipcomm:")),
}
