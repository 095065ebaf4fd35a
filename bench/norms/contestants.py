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
from hipcomm_bench.norms.ours import WITH_ALGORITHM, AddNorm, AllReduce, Hipcomm, Pair
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
    *WITH_ALGORITHM,
)

NORM_CONTESTANTS: dict[str, type[NormContestant]] = {kind.name: kind for kind in _KINDS}

NORM_GROUPS = {
    "algorithms": tuple(kind.name for kind in WITH_ALGORITHM),
    "all": tuple(name for name in NORM_CONTESTANTS if not name.startswith("hipcomm:")),
}
