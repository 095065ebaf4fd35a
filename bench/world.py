"""The benchmark's own, untimed communication: barrier, gathering numbers and texts, a text from rank 0.

It uses its own rendezvous, not through any contestant, so it works on every platform, under
every launcher, and while ranks wait they leave the processor to others.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Protocol

from hipcomm.environment import Identity, Settings

_PATIENCE = 300.0  # seconds for the slowest rank: it may be checking a gigabyte of results


class World(Protocol):
    """All ranks of the job, and what the benchmark needs to say to them."""

    rank: int
    size: int

    def barrier(self) -> None:
        """Return when all ranks have called."""

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """Return every rank's `values`, in rank order; all ranks pass equally many."""

    def texts(self, text: str) -> list[str]:
        """Return every rank's `text`, in rank order."""

    def share(self, text: str) -> str:
        """Return rank 0's `text`, on every rank."""

    def close(self) -> None:
        """Leave, together with all other ranks."""


class RendezvousWorld:
    """The ranks that any launcher started, through hipcomm's rendezvous."""

    def __init__(self, identity: Identity, settings: Settings) -> None:
        """Join the other ranks. Raises RendezvousError where not all come."""
        from hipcomm.rendezvous import connect

        self._client = connect(apart(identity, "world"), settings)
        self.rank = identity.rank
        self.size = identity.world_size

    def barrier(self) -> None:
        """Return when all ranks have called."""
        self._client.all_gather("bench/barrier", b"", _PATIENCE)

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """Return every rank's `values`, in rank order."""
        packed = struct.pack(f"<{len(values)}d", *values)
        everyones = self._client.all_gather("bench/numbers", packed, _PATIENCE)
        return [list(struct.unpack(f"<{len(values)}d", each)) for each in everyones]

    def texts(self, text: str) -> list[str]:
        """Return every rank's `text`, in rank order."""
        return [each.decode() for each in self._client.all_gather("bench/texts", text.encode(), _PATIENCE)]

    def share(self, text: str) -> str:
        """Return rank 0's `text`, on every rank."""
        return self.texts(text if self.rank == 0 else "")[0]

    def close(self) -> None:
        """Leave in good order."""
        self._client.close()


def apart(identity: Identity, name: str) -> Identity:
    """Return `identity` under a name of its own, for one of several rendezvous of the same ranks.

    Under hipcomm-run one server serves them all, in the order in which they are made. Elsewhere rank 0
    hosts a server for each, and the ranks find it by this name.
    """
    return identity._replace(job_key=f"{identity.job_key} hipcomm-bench/{name}")


def maximum(world: World, values: Sequence[float]) -> list[float]:
    """Return the element-wise maximum over ranks of `values`; collective."""
    return [max(column) for column in zip(*world.gather(values), strict=True)]


def first_problem(world: World, problem: str) -> str:
    """Return what went wrong, or an empty text where nothing did; the same on all ranks; collective.

    It is the text of the first rank that has one, and names that rank where not all have the same.
    """
    texts = world.texts(problem)
    for rank, text in enumerate(texts):
        if text:
            return text if len(set(texts)) == 1 else f"rank {rank}: {text}"
    return ""


def started_by(mpi: str) -> bool:
    """Tell whether the mpirun of an MPI started this process. MPICH's and Intel's both speak PMI."""
    return Identity.read().source == ("Open MPI" if mpi == "Open MPI" else "PMI")


def under_mpirun() -> bool:
    """Tell whether some mpirun started this process."""
    return Identity.read().source in ("Open MPI", "PMI")


def under_launcher() -> bool:
    """Tell whether this process is a rank that a launcher started."""
    return Identity.read().source != "alone"
