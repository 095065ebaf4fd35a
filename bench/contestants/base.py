"""What every contestant offers to the benchmark, and what those with collectives do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from hipcomm_bench.clock import Prepared
from hipcomm_bench.data import Buffers
from hipcomm_bench.ops import Call
from hipcomm_bench.session import Session

GPUS = ("amd", "nvidia")


class Unsupported(Exception):
    """Raised where a contestant has no such call; the message says why, and its cells stay empty."""


@dataclass(frozen=True)
class Launcher:
    """An mpirun.

    Attributes:
        kind: which MPI's.
        mpirun: the program.
        python: the Python whose mpi4py is made for it.
    """

    kind: str
    mpirun: str
    python: str


class Library(ABC):
    """One library, joined by all ranks of the session. Making one is collective, and so is close().

    Attributes:
        name: on the command line and in tables.
        platforms: those of hipcomm's platforms on whose memory it works.
        ours: whether it is hipcomm, whose failures end the job: they are what the benchmark is there to show.
        version: of the library that was measured.
    """

    name: ClassVar[str]
    platforms: ClassVar[tuple[str, ...]]
    ours: ClassVar[bool] = False
    version: str

    @classmethod
    @abstractmethod
    def why_missing(cls) -> str | None:
        """Return why this contestant cannot run on this machine, or None if it can.

        Called in the process that starts the job as well as in the ranks, so it initialises nothing.
        """

    @classmethod
    def launcher(cls) -> Launcher | None:
        """Return the mpirun that has to start its ranks; None: whatever starts them."""
        return None

    @abstractmethod
    def __init__(self, session: Session) -> None:
        """Join the other ranks."""

    @abstractmethod
    def close(self) -> None:
        """Leave the other ranks."""


class Contestant(Library):
    """A library that has collectives.

    Attributes:
        any_dimension: whether it puts arrays together along other dimensions than the first.
    """

    any_dimension: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, call: Call, buffers: Buffers) -> Prepared:
        """Return this call on these buffers, ready to be made.

        Whatever can be done beforehand is done here, outside of the measured time.

        Raises:
            Unsupported: the library has no such call.
        """


def how(call: Call) -> str:
    """Return ``in-place all_gather``: for messages."""
    return f"{'in-place' if call.in_place else 'out-of-place'} {call.op.name}"
