"""all_gather: the ranks' inputs in rank order, for every dtype, size and address."""

from __future__ import annotations

import itertools

import cases
import numpy as np
import oracle
import pytest
from cases import Case, random_case
from harness import worlds

OPERATION = "all_gather"
ALGORITHMS = ("one_shot", "pipelined")
everywhere = pytest.mark.parametrize("world", worlds(1, 2, 3, 4, 5, 6, 7, 8))
with_every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


def every_dtype(comm, rng, seed):
    shared = np.random.default_rng(seed)
    chosen = [
        random_case(
            shared, comm.world_size, (seed, number), OPERATION, dtype=dtype, kind="bits", in_place=place
        )
        for number, (dtype, place) in enumerate(itertools.product(oracle.DTYPES, (False, True)))
    ]
    return cases.run(comm, rng, chosen)


@everywhere
@with_every_algorithm
def test_every_dtype(ranks, algorithm, world):
    assert ranks.world(world, algorithm=algorithm).run(every_dtype, 11) == [20] * world


@pytest.mark.parametrize("world", worlds(12, 16))
@with_every_algorithm
def test_large_worlds(ranks, algorithm, world):
    ranks.world(world, algorithm=algorithm).run(every_dtype, 12)


def every_boundary(comm, rng, algorithm, seed):
    shared = np.random.default_rng(seed)
    return cases.run(comm, rng, cases.boundary_cases(comm, shared, OPERATION, algorithm, (seed,)), burst=1)


@everywhere
@with_every_algorithm
def test_every_boundary(ranks, algorithm, world):
    ranks.world(world, algorithm=algorithm).run(every_boundary, algorithm, 13)


def every_alignment(comm, rng, seed):
    shared = np.random.default_rng(seed)
    chosen = [
        random_case(shared, comm.world_size, (seed, *offsets), OPERATION, offsets=offsets)
        for offsets in itertools.product(range(16), range(16))
    ]
    return cases.run(comm, rng, chosen, burst=32)


@pytest.mark.parametrize("world", worlds(2, 3))
@with_every_algorithm
def test_every_alignment(ranks, algorithm, world):
    assert ranks.world(world, algorithm=algorithm).run(every_alignment, 14) == [256] * world


def arrays_of_any_shape(comm, rng):
    for shape in ((), (1,), (0,), (5, 0, 3), (3, 1, 2), (7, 5)):
        own = np.full(shape, comm.rank + 1, np.int32)
        result = np.full((comm.world_size, *shape), -1, np.int32)
        comm.all_gather(own, result)
        for rank in range(comm.world_size):
            assert (result[rank] == rank + 1).all()


@pytest.mark.host_arrays
@pytest.mark.parametrize("world", worlds(1, 4))
def test_arrays_of_any_shape(ranks, world):
    ranks.world(world).run(arrays_of_any_shape)


def parts_keep_their_place(comm, rng):
    """A rank whose part is longer than a launch can carry: parts are a whole message apart, not a launch."""
    case = Case(OPERATION, 300_001, "uint8", seed=(15,), kind="bits")
    return cases.run(comm, rng, [case])


@pytest.mark.parametrize("world", worlds(2, 3))
def test_parts_keep_their_place(ranks, world):
    ranks.world(world, algorithm="one_shot").run(parts_keep_their_place)
