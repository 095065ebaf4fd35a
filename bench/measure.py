"""The measurement: contestants take turns, many samples are taken, and the slowest rank counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hipcomm_bench.clock import Clock, Prepared, Samples
from hipcomm_bench.world import World, maximum

# Contestants alternate this many times per size, so that what happens on the machine meanwhile (clock
# changes, other processes) falls on all of them.
ROUNDS = 5


@dataclass(frozen=True)
class Effort:
    """How much to measure.

    Attributes:
        iterations: the largest number of timed calls per contestant and size.
        warmup: untimed calls before.
        budget: seconds per contestant and size after which fewer iterations are made; at least one
            sample per round is taken.
    """

    iterations: int = 5000
    warmup: int = 5
    budget: float = 0.4


@dataclass(frozen=True)
class Timing:
    """One contestant's times per call in seconds, each the maximum over ranks.

    Attributes:
        p50, p99: of the samples.
        calls: how many were timed.
        batch: calls per sample.
        host: the median of what the calling thread spends on a call; None where it waits for it anyway.
    """

    p50: float
    p99: float
    calls: int
    batch: int
    host: float | None


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of `values` that is not below `percent` % of them (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def median(values: Sequence[float]) -> float:
    """Return the middle of `values`, or the mean of the two in the middle."""
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


def planned_samples(seconds_per_sample: float, calls_per_sample: int, effort: Effort) -> int:
    """Return how many samples to take, a multiple of ROUNDS, given how long one takes and holds."""
    affordable = int(effort.budget / max(seconds_per_sample, 1e-9))
    samples = max(ROUNDS, min(effort.iterations // calls_per_sample, affordable))
    return samples // ROUNDS * ROUNDS


def measure(
    calls: Mapping[str, Prepared], world: World, effort: Effort, clock: Clock[Any]
) -> dict[str, Timing]:
    """Time every contestant's call; collective: all ranks pass the same names in the same order.

    How many samples of how many calls are taken is agreed on by all ranks, since a rank that made one
    call less would leave the others waiting.
    """
    armed, batch, samples = {}, {}, {}
    for name, prepared in calls.items():
        world.barrier()
        seconds = maximum(world, [clock.trial(prepared, max(effort.warmup, 2))])[0]
        batch[name] = clock.calls(seconds)
        samples[name] = planned_samples(seconds * batch[name], batch[name], effort)
        armed[name] = clock.arm(prepared, batch[name])
    taken = {name: Samples() for name in calls}
    for _ in range(ROUNDS):
        for name in calls:
            world.barrier()
            taken[name].extend(clock.take(armed[name], samples[name] // ROUNDS))
    timings = {}
    for name, own in taken.items():
        clock.disarm(armed[name])
        host = [median(own.host)] if own.host else []
        p50, p99, *slowest_host = maximum(world, [median(own.times), percentile(own.times, 99), *host])
        calls_made = len(own.times) * batch[name]
        timings[name] = Timing(p50, p99, calls_made, batch[name], slowest_host[0] if slowest_host else None)
    return timings
