"""The benchmark's own, untimed communication: barrier, gathering numbers, and a text from rank 0."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from hipcomm.environment import Identity


class World(Protocol):
    """All ranks of the job, and what the benchmark needs to say to them."""

    rank: int
    size: int

    def barrier(self) -> None:
        """Return when all ranks have called."""

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """Return every rank's `values`, in rank order; all ranks pass equally many."""

    def share(self, text: str) -> str:
        """Return rank 0's `text`, on every rank."""

    def close(self) -> None:
        """Leave, together with all other ranks."""


class MpiWorld:
    """The ranks that mpirun started, through mpi4py."""

    def __init__(self) -> None:
        self._comm: Any = import_module("mpi4py.MPI").COMM_WORLD
        self.rank: int = self._comm.rank
        self.size: int = self._comm.size

    def barrier(self) -> None:
        """Return when all ranks have called."""
        self._comm.Barrier()

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """Return every rank's `values`, in rank order."""
        return list(self._comm.allgather(list(values)))

    def share(self, text: str) -> str:
        """Return rank 0's `text`, on every rank."""
        return str(self._comm.bcast(text))

    def close(self) -> None:
        """Do nothing: MPI ends with the process."""


class HipcommWorld:
    """The ranks that hipcomm-run or a launcher other than mpirun started, through hipcomm itself."""

    def __init__(self) -> None:
        import hipcomm

        self.comm: Any = hipcomm.init()
        self.rank: int = self.comm.rank
        self.size: int = self.comm.world_size

    def barrier(self) -> None:
        """Return when all ranks have called."""
        self.comm.barrier()

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """Return every rank's `values`, in rank order."""
        everyones = np.empty((self.size, len(values)), np.float64)
        self.comm.all_gather(np.array([values], np.float64), everyones)
        self.comm.synchronize()
        return [list(map(float, row)) for row in everyones]

    def share(self, text: str) -> str:
        """Return rank 0's `text`, on every rank."""
        length = np.array([len(text.encode())], np.int64)
        self.comm.broadcast(length)
        self.comm.synchronize()
        data = np.zeros(int(length[0]), np.uint8)
        if self.rank == 0:
            data[:] = np.frombuffer(text.encode(), np.uint8)
        self.comm.broadcast(data)
        self.comm.synchronize()
        return data.tobytes().decode()

    def close(self) -> None:
        """Close the communicator, and with it what a contestant still does on it."""
        self.comm.close()


def maximum(world: World, values: Sequence[float]) -> list[float]:
    """Return the element-wise maximum over ranks of `values`; collective."""
    return [max(column) for column in zip(*world.gather(values), strict=True)]


def under_mpirun() -> bool:
    """Tell whether Open MPI's mpirun started this process."""
    return "OMPI_COMM_WORLD_RANK" in os.environ


def under_launcher() -> bool:
    """Tell whether this process is a rank that a launcher started."""
    return Identity.read().source != "alone"
