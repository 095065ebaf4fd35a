"""The timing loop: contestants take turns, every call is timed, and the slowest rank counts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hipcomm_bench.world import World, maximum

# Contestants alternate this many times per size, so that what happens on the machine meanwhile (clock
# changes, other processes) falls on all of them.
ROUNDS = 5

Run = Callable[[], object]


@dataclass(frozen=True)
class Effort:
    """How much to measure.

    Attributes:
        iterations: the largest number of timed calls per contestant and size.
        warmup: untimed calls before.
        budget: seconds per contestant and size after which fewer iterations are made; at least 5 are.
    """

    iterations: int = 1000
    warmup: int = 5
    budget: float = 0.4


@dataclass(frozen=True)
class Timing:
    """One contestant's times per call in seconds, each the maximum over ranks; `calls` were timed."""

    p50: float
    p99: float
    calls: int


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of `values` that is not below `percent` % of them (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def median(values: Sequence[float]) -> float:
    """Return the middle of `values`, or the mean of the two in the middle."""
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


def planned_calls(seconds_per_call: float, effort: Effort) -> int:
    """Return how many calls to time, a multiple of ROUNDS, given what one call takes."""
    affordable = int(effort.budget / max(seconds_per_call, 1e-9))
    calls = max(ROUNDS, min(effort.iterations, affordable))
    return calls // ROUNDS * ROUNDS


def measure(runs: Mapping[str, Run], world: World, effort: Effort) -> dict[str, Timing]:
    """Time every contestant's call; collective: all ranks pass the same names in the same order.

    The number of calls is agreed on by all ranks, since a rank that made one call less would leave the
    others waiting.
    """
    plan = {}
    for name, run in runs.items():
        world.barrier()
        trial = min(_time_calls(run, max(effort.warmup, 2)))
        plan[name] = planned_calls(maximum(world, [trial])[0], effort)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            world.barrier()
            run()  # the first call after another contestant's finds caches and peers in another state
            times[name] += _time_calls(run, plan[name] // ROUNDS)
    timings = {}
    for name, own in times.items():
        p50, p99 = maximum(world, [median(own), percentile(own, 99)])
        timings[name] = Timing(p50, p99, len(own))
    return timings


def _time_calls(run: Run, calls: int) -> list[float]:
    """Return the seconds that each of `calls` calls took on this rank."""
    clock = time.perf_counter_ns
    times = []
    for _ in range(calls):
        start = clock()
        run()
        times.append((clock() - start) * 1e-9)
    return times
