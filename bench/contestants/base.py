"""What every contestant offers to the benchmark."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from hipcomm_bench.data import Buffers
from hipcomm_bench.ops import Call
from hipcomm_bench.world import World


class Unsupported(Exception):
    """Raised where a contestant has no such call; the message says why, and its cells stay empty."""


class Contestant(ABC):
    """One library, joined by all ranks of `world`. Making one is collective, and so is close().

    Attributes:
        name: on the command line and in tables.
        version: of the library that was measured.
    """

    name: ClassVar[str]
    version: str

    @classmethod
    @abstractmethod
    def why_missing(cls) -> str | None:
        """Return why this contestant cannot run on this machine, or None if it can.

        Called in the process that starts the job as well as in the ranks, so it initialises nothing.
        """

    @abstractmethod
    def __init__(self, world: World) -> None:
        """Join the other ranks."""

    @abstractmethod
    def prepare(self, call: Call, buffers: Buffers) -> Callable[[], Any]:
        """Return a function that makes this call on these buffers and returns when it is complete.

        Whatever can be done beforehand is done here, outside of the measured time.

        Raises:
            Unsupported: the library has no such call.
        """

    @abstractmethod
    def close(self) -> None:
        """Leave the other ranks."""
