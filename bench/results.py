"""What a run of the benchmark finds out, in the form in which it is written to JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from hipcomm_bench.subjects import Subject


@dataclass(frozen=True)
class Options:
    """What to measure, as the command line asked.

    Attributes:
        op: the operation's name; dtype and redop: nccl-tests' -d and -o.
        sizes: message sizes in bytes.
        shapes: of matrices, as many as sizes: (rows, elements of a row); empty: messages have no shape.
        norm: of the fused operation; else empty.
        quantised: the format of its quantised output; empty: there is none.
        root: of those operations that have one.
        dim: of the shapes, along which parts are put together.
        absent: why contestants that another mpirun would have to start cannot run at all, by name.
        iterations, warmup, budget: see hipcomm_bench.measure.Effort.
        check: whether to count wrong results.
        contestants: names, the first being the one that the others are compared with.
        modes: which of in place (True) and out of place (False).
        graph: nccl-tests' -G, the most calls in a graph; 0: eager calls; None: graphs on GPUs only.
        progress: whether to report how far the job is, for hipcomm_bench.progress.
    """

    op: str
    dtype: str
    redop: str
    sizes: list[int]
    iterations: int
    warmup: int
    budget: float
    check: bool
    contestants: list[str]
    modes: list[bool]
    graph: int | None = None
    progress: bool = False
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    norm: str = ""
    quantised: str = ""
    root: int = 0
    dim: int = 0
    absent: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Options:
        """Return the options whose asdict() is `data`."""
        return cls(**{**data, "shapes": [tuple(shape) for shape in data["shapes"]]})

    @property
    def subjects(self) -> list[Subject]:
        """What the lines of the tables are about, in their order."""
        return [
            Subject(*pair) for pair in zip(self.sizes, self.shapes or [()] * len(self.sizes), strict=True)
        ]

    @property
    def reduction(self) -> str:
        """What is computed, for nccl-tests' column redop."""
        return self.norm or self.redop

    @property
    def title(self) -> list[str]:
        """What is measured, in words."""
        what = [self.op, self.dtype] + [self.reduction] * (self.reduction != "none")
        return what + [self.quantised] * bool(self.quantised)


@dataclass(frozen=True)
class Row:
    """One contestant's figures for one size: p50, p99 and host in µs, bandwidths in GB/s (10^9 bytes).

    `calls` were timed, `batch` of them per sample. `host_us` is what an eager call costs the calling
    thread; None where it waits for the result anyway. `wrong` counts wrong elements over all ranks; it is
    None where nothing was checked.
    """

    contestant: str
    size: int
    count: int
    in_place: bool
    p50_us: float
    p99_us: float
    algbw: float
    busbw: float
    calls: int
    wrong: int | None
    batch: int = 1
    host_us: float | None = None
    shape: tuple[int, ...] = ()

    @property
    def subject(self) -> Subject:
        """What it is about."""
        return Subject(self.size, self.shape)


@dataclass
class Job:
    """The results of one world.

    Attributes:
        ranks: the world size.
        launcher: the command that started the ranks.
        platform: hipcomm's, on which they ran.
        aggregation: how a figure came about.
        devices: of the ranks, in rank order: name, architecture and PCI bus id.
        gpus: what the driver says of all GPUs just after the last figure: names, clocks, temperature.
        notes: what a reader has to know about how it was run.
        versions: of the contestants that ran, by name.
        missing: why a contestant that was asked for did not run, by name.
        unsupported: calls that a contestant does not have or failed at, as "name: reason".
        rows: the figures.
        failure: how the job ended where it did not end well; the rows are what it had found until then.
    """

    ranks: int
    launcher: str = ""
    platform: str = ""
    aggregation: str = ""
    devices: list[str] = field(default_factory=list)
    gpus: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    unsupported: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    failure: str = ""

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Job:
        """Return the job whose asdict() is `data`."""
        rows = [Row(**{**row, "shape": tuple(row["shape"])}) for row in data["rows"]]
        return cls(**{**data, "rows": rows})

    def find(self, contestant: str, subject: Subject, in_place: bool) -> Row | None:
        """Return the row with these three, or None where there is none."""
        wanted = (contestant, subject, in_place)
        return next((r for r in self.rows if (r.contestant, r.subject, r.in_place) == wanted), None)

    def modes(self) -> list[bool]:
        """Return the uses of the buffers (in place: True) for which there are figures."""
        return sorted({row.in_place for row in self.rows})

    def wrong(self) -> int:
        """Return how many elements were wrong in all rows."""
        return sum(row.wrong or 0 for row in self.rows)

    def has_host_times(self) -> bool:
        """Tell whether it was measured what a call costs the calling thread."""
        return any(row.host_us is not None for row in self.rows)


@dataclass
class Report:
    """One run of hipcomm-bench: the machine, the question, and a job per world."""

    machine: dict[str, str]
    command: str
    started: str
    options: Options
    jobs: list[Job]

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return {"schema": 3, **asdict(self)}
