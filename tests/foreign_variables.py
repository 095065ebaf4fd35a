"""The environment of this process without what launchers, and hipcomm's own settings, would say in it."""

from __future__ import annotations

import os

FOREIGN = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_",
    "MASTER_",
    "TORCHELASTIC_",
    "OMPI_",
    "PMI",
    "MPI_",
    "SLURM_",
    "HIPCOMM_",
)


def clean_environment(**added: str) -> dict[str, str]:
    """All variables but those that begin with one of FOREIGN; and *added*."""
    return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)} | added
