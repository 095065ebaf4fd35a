"""What a rank has to know of a kind of call: buffers, inputs, results. All else is the same for all kinds."""

from __future__ import annotations

from typing import Protocol

from hipcomm_bench.clock import Prepared
from hipcomm_bench.contestants.base import Library
from hipcomm_bench.subjects import Subject


class Task(Protocol):
    """One call on one subject.

    Attributes:
        count: elements of its largest buffer.
    """

    count: int

    def prepare(self, library: Library) -> Prepared:
        """Return the library's call. Raises Unsupported where it has none."""

    def fill(self, library: Library | None) -> None:
        """Write this rank's input, and something else where the results will be.

        Args:
            library: whose results are to be checked; None: the inputs with which all are timed.
        """

    def count_wrong(self, library: Library) -> int:
        """Return how many elements of this rank's results are wrong after the call."""

    def bandwidths(self, library: Library, seconds: float) -> tuple[float, float]:
        """Return (algorithm bandwidth, bus bandwidth) in GB/s (10^9 bytes) of a call that takes so long."""


class Workload(Protocol):
    """All that is measured in one run, on buffers that are allocated once."""

    def task(self, subject: Subject, in_place: bool) -> Task:
        """Return the call on a subject."""

    def free(self) -> None:
        """Give the buffers back."""
