"""Processor cores for ranks: equal shares of those that we may run on, and threads to go with them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_CPUS = Path("/sys/devices/system/cpu")
_GPU_NODES = ("/dev/kfd", "/dev/nvidiactl")


def usable() -> list[int]:
    """Return the processors that this process may run on, threads of a core next to each other."""
    return sorted(os.sched_getaffinity(0), key=_place)


def _place(cpu: int) -> tuple[int, int, int]:
    """Return package, core and number; the number alone where the system does not say."""
    topology = _CPUS / f"cpu{cpu}" / "topology"
    try:
        package, core = (int((topology / name).read_text()) for name in ("physical_package_id", "core_id"))
    except (OSError, ValueError):
        return 0, 0, cpu
    return package, core, cpu


def shares(cpus: list[int], ranks: int) -> list[frozenset[int]]:
    """Return processors for each rank, equally many, no two the same; empty if there are too few."""
    each = len(cpus) // ranks
    return [frozenset(cpus[rank * each : (rank + 1) * each]) for rank in range(ranks)] if each else []


def bind_by_default(platform: str) -> bool:
    """Tell whether ranks are bound unless the command line says otherwise: where their devices are cores.

    A GPU's rank had better be near its GPU, which only the program knows.
    """
    return platform == "cpu" or (platform == "auto" and not any(Path(node).exists() for node in _GPU_NODES))


def threads(ranks: int, environ: Mapping[str, str]) -> dict[str, str]:
    """Return OMP_NUM_THREADS for each of several ranks: its share, if nobody has said another number."""
    if ranks == 1 or environ.get("OMP_NUM_THREADS"):
        return {}
    return {"OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // ranks))}
