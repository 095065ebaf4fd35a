"""Thousands of calls back to back: operations, sizes, dtypes, roots and algorithms in random order.

What one call leaves behind (lines, signals, staging memory, epochs) is what the next one might trip over.
Nothing but the calls themselves keeps the ranks in step, and some ranks are late on purpose.
"""

from __future__ import annotations

import time

import cases
import numpy as np
import oracle
import pytest
from cases import COLLECTIVES, random_case
from harness import ALGORITHMS, worlds


def draw_count(rng, world):
    """Mostly small messages, some that need the pipeline, none at all now and then."""
    kind = rng.random()
    if kind < 0.05:
        return 0
    if kind < 0.85:
        return int(2 ** rng.uniform(0, 10))
    return int(2 ** rng.uniform(10, 17)) // world


def mixed_calls(comm, rng, seed, calls):
    shared = np.random.default_rng(seed)

    def chosen():
        for number in range(calls):
            operation = oracle.pick(shared, COLLECTIVES)
            count = draw_count(shared, comm.world_size)
            yield random_case(shared, comm.world_size, (seed, number), operation, count=count)
            if shared.random() < 0.1:
                comm.barrier()

    return cases.run(comm, rng, chosen(), burst=40)


@pytest.mark.parametrize("world", worlds(2, 3, 4, 8))
@pytest.mark.parametrize("algorithm", ("auto", *ALGORITHMS))
def test_mixed_calls(ranks, algorithm, world):
    calls = 2000 if world < 8 else 1000
    made = ranks.world(world, algorithm=algorithm).run(mixed_calls, 31, calls)
    assert made == [calls] * world


@pytest.mark.parametrize("world", worlds(1, 5, 6, 7))
def test_mixed_calls_in_the_other_worlds(ranks, world):
    assert ranks.world(world).run(mixed_calls, 33, 2000) == [2000] * world


def barriers(comm, rng, rounds):
    """Nobody passes a barrier before everybody has come: seen through a shared clock."""
    passed = []
    for _ in range(rounds):
        cases.skew(rng)
        came = time.monotonic()
        comm.barrier()
        comm.synchronize()
        passed.append((came, time.monotonic()))
    return passed


@pytest.mark.parametrize("world", worlds(1, 2, 5, 8, 16))
def test_barrier(ranks, world):
    by_rank = ranks.world(world).run(barriers, 100)
    for times in zip(*by_rank, strict=True):
        last_came = max(came for came, _ in times)
        first_passed = min(passed for _, passed in times)
        assert last_came <= first_passed


def small_staging(comm, rng, seed):
    """Many turns of the ring, or many launches: the smallest staging slab, messages far longer than it."""
    shared = np.random.default_rng(seed)
    chosen = [
        random_case(shared, comm.world_size, (seed, number), operation, dtype="uint8", count=7_000_001)
        for number, operation in enumerate(("all_reduce", "broadcast"))
    ]
    chosen.append(
        random_case(shared, comm.world_size, (seed, 9), "all_gather", dtype="int8", count=2_500_001)
    )
    return cases.run(comm, rng, chosen, burst=1)


@pytest.mark.parametrize("world", worlds(2, 3))
@pytest.mark.parametrize("algorithm", ("auto", "staged"))
def test_small_staging(ranks, algorithm, world):
    ranks.world(world, algorithm=algorithm, staging_bytes="1").run(small_staging, 32)
