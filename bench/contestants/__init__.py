"""The libraries that can be measured, by name."""

from __future__ import annotations

from hipcomm_bench.contestants.base import Contestant, Unsupported
from hipcomm_bench.contestants.gloo import Gloo
from hipcomm_bench.contestants.hipcomm import Hipcomm
from hipcomm_bench.contestants.openmpi import OpenMpi

CONTESTANTS: dict[str, type[Contestant]] = {c.name: c for c in (Hipcomm, OpenMpi, Gloo)}

__all__ = ["CONTESTANTS", "Contestant", "Unsupported"]
