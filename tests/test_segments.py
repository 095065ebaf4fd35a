"""reduce_scatter, reduce, all_to_all, gather, scatter and all_gather in its other forms: the oracle's bits
for every dtype, size, address, dimension and root."""

from __future__ import annotations

import itertools
from dataclasses import replace

import cases
import numpy as np
import oracle
import pytest
from cases import COLLECTIVES, IN_PARTS, MOVEMENTS, REDUCTIONS, Case, random_case
from harness import worlds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plans import boundary_sizes

everywhere = pytest.mark.parametrize("world", worlds(1, 2, 3, 4, 5, 6, 7, 8))
with_every_algorithm = pytest.mark.parametrize("algorithm", ("one_shot", "pipelined"))


def every_dtype(comm, rng, seed):
    shared = np.random.default_rng(seed)
    kinds = [
        (operation, dtype, op)
        for operation in REDUCTIONS
        for dtype in oracle.ALL_DTYPES
        for op in oracle.OPERATIONS
    ]
    kinds += [(operation, dtype, "sum") for operation in MOVEMENTS for dtype in oracle.ALL_DTYPES]
    chosen = [
        random_case(shared, comm.world_size, (seed, number), operation, dtype=dtype, op=op)
        for number, (operation, dtype, op) in enumerate(kinds)
    ]
    return cases.run(comm, rng, chosen)


@everywhere
@with_every_algorithm
def test_every_dtype(ranks, algorithm, world):
    made = ranks.world(world, algorithm=algorithm).run(every_dtype, 51)
    assert made == [len(oracle.ALL_DTYPES) * (2 * 5 + 6)] * world


@pytest.mark.parametrize("world", worlds(12, 16))
@with_every_algorithm
def test_large_worlds(ranks, algorithm, world):
    ranks.world(world, algorithm=algorithm).run(mixed_calls, 52, 60)


def every_boundary(comm, rng, algorithm, seed):
    """One element less, the same and one more than each of the sizes where a plan changes."""
    shared = np.random.default_rng(seed)
    world = comm.world_size

    def chosen():
        for operation in IN_PARTS:
            sizes = boundary_sizes(operation, world, comm.device.arch, algorithm, comm.device.multiprocessors)
            for nbytes, more in itertools.product(sizes, (-1, 0, 1)):
                if nbytes > 1 << 20:
                    continue
                case = random_case(shared, world, (seed, nbytes, more + 1), operation)
                case = replace(case, rows=1 if operation != "all_gather_rows" else 2)
                count = nbytes // oracle.dtype_of(case.dtype).itemsize // case.rows + more
                if count >= 0:
                    yield replace(case, count=count)

    return cases.run(comm, rng, chosen(), burst=1)


@pytest.mark.parametrize("world", worlds(2, 3, 5))
@with_every_algorithm
def test_every_boundary(ranks, algorithm, world):
    ranks.world(world, algorithm=algorithm).run(every_boundary, algorithm, 53)


def every_alignment(comm, rng, seed):
    shared = np.random.default_rng(seed)
    chosen = [
        random_case(
            shared, comm.world_size, (seed, number), operation, offsets=offsets, dtype="uint8", count=70
        )
        for operation in IN_PARTS
        for number, offsets in enumerate(itertools.product(range(16), range(0, 16, 3)))
    ]
    return cases.run(comm, rng, chosen, burst=32)


@pytest.mark.parametrize("world", worlds(2, 3))
@with_every_algorithm
def test_every_alignment(ranks, algorithm, world):
    ranks.world(world, algorithm=algorithm).run(every_alignment, 54)


def mixed_calls(comm, rng, seed, calls):
    shared = np.random.default_rng(seed)

    def chosen():
        for number in range(calls):
            operation = oracle.pick(shared, IN_PARTS + COLLECTIVES)
            count = 0 if shared.random() < 0.05 else int(2 ** shared.uniform(0, 12)) // comm.world_size
            yield random_case(shared, comm.world_size, (seed, number), operation, count=count)

    return cases.run(comm, rng, chosen(), burst=40)


@pytest.mark.parametrize("world", worlds(2, 3, 4, 8))
@pytest.mark.parametrize("algorithm", ("auto", "one_shot", "pipelined"))
def test_mixed_calls(ranks, algorithm, world):
    """What one call leaves behind is what the next one, of another kind, might trip over."""
    calls = 1500 if world < 8 else 600
    assert ranks.world(world, algorithm=algorithm).run(mixed_calls, 55, calls) == [calls] * world


def small_staging(comm, rng, seed):
    """Long messages through a small staging slab: many turns of the ring."""
    shared = np.random.default_rng(seed)
    chosen = [
        random_case(shared, comm.world_size, (seed, number), operation, count=200_000 + number, dtype="uint8")
        for number, operation in enumerate(IN_PARTS)
    ]
    return cases.run(comm, rng, chosen, burst=1)


@pytest.mark.parametrize("world", worlds(2, 3))
def test_small_staging(ranks, world):
    ranks.world(world, staging_bytes="2M").run(small_staging, 56)


# ---- arrays of any dimension -----------------------------------------------------------------------


def along_every_dimension(comm, rng, shape, dtype, seed):
    world, rank = comm.world_size, comm.rank
    dtype = oracle.dtype_of(dtype)
    for dim in range(-len(shape), len(shape)):
        parts = [
            oracle.make_input((seed, dim + 9), peer, int(np.prod(shape)), dtype, "plain").reshape(shape)
            for peer in range(world)
        ]
        expected = np.concatenate(parts, axis=dim)
        gathered = np.zeros(expected.shape, dtype)
        comm.all_gather(parts[rank], gathered, dim=dim)
        assert not oracle.difference(gathered.reshape(-1), expected.reshape(-1))

        wholes = [np.roll(expected, peer, axis=dim) for peer in range(world)]
        reduced = oracle.reduce([whole.reshape(-1) for whole in wholes], "sum").reshape(expected.shape)
        part = np.zeros(shape, dtype)
        comm.reduce_scatter(wholes[rank], part, dim=dim)
        assert not oracle.difference(part.reshape(-1), np.split(reduced, world, axis=dim)[rank].reshape(-1))


@pytest.mark.host_arrays
@pytest.mark.parametrize("world", worlds(1, 3))
@pytest.mark.parametrize("algorithm", ("one_shot", "pipelined"))
@settings(
    max_examples=40,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    shape=st.lists(st.integers(0, 9), min_size=1, max_size=4).map(tuple),
    dtype=st.sampled_from(oracle.ALL_DTYPES),
    seed=st.integers(0, 2**32),
)
def test_along_every_dimension(ranks, algorithm, world, shape, dtype, seed):
    ranks.world(world, algorithm=algorithm).run(along_every_dimension, shape, dtype, seed)


def one_case(comm, rng, case):
    return cases.run(comm, rng, [replace(case, root=case.root % comm.world_size)])


offsets = st.integers(0, 15)
any_case = st.builds(
    Case,
    operation=st.sampled_from(IN_PARTS),
    count=st.one_of(st.integers(0, 100), st.integers(0, 9000)),
    dtype=st.sampled_from(oracle.ALL_DTYPES),
    op=st.sampled_from(oracle.OPERATIONS),
    root=st.integers(0, 15),
    in_place=st.booleans(),
    offsets=st.tuples(offsets, offsets),
    kind=st.just("bits"),
    seed=st.tuples(st.integers(0, 2**32)),
)


@pytest.mark.parametrize("world", worlds(5))
@pytest.mark.parametrize("algorithm", ("auto", "one_shot", "pipelined"))
@settings(
    max_examples=60,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(case=any_case)
def test_any_case(ranks, algorithm, world, case):
    """Hypothesis finds the smallest case that fails."""
    ranks.world(world, algorithm=algorithm).run(one_case, case)
