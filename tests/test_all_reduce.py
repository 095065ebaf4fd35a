"""all_reduce: every algorithm gives the oracle's bits, for every dtype, operation, size and address."""

from __future__ import annotations

import itertools

import cases
import numpy as np
import oracle
import pytest
from cases import Case, random_case
from harness import ALGORITHMS, worlds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

OPERATION = "all_reduce"
everywhere = pytest.mark.parametrize("world", worlds(1, 2, 3, 4, 5, 6, 7, 8))
with_every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


def every_dtype_and_operation(comm, rng, seed, kinds):
    shared = np.random.default_rng(seed)
    chosen = []
    for dtype, op, kind in itertools.product(oracle.DTYPES, oracle.OPERATIONS, kinds):
        call = (seed, len(chosen))
        chosen.append(random_case(shared, comm.world_size, call, OPERATION, dtype=dtype, op=op, kind=kind))
    return cases.run(comm, rng, chosen)


@everywhere
@with_every_algorithm
def test_every_dtype_and_operation(ranks, algorithm, world):
    made = ranks.world(world, algorithm=algorithm).run(every_dtype_and_operation, 1, oracle.KINDS)
    assert made == [len(oracle.DTYPES) * len(oracle.OPERATIONS) * len(oracle.KINDS)] * world


@pytest.mark.parametrize("world", worlds(12, 16))
@with_every_algorithm
def test_large_worlds(ranks, algorithm, world):
    ranks.world(world, algorithm=algorithm).run(every_dtype_and_operation, 2, ("plain",))


def every_boundary(comm, rng, algorithm, seed, staging_bytes):
    shared = np.random.default_rng(seed)
    chosen = cases.boundary_cases(comm, shared, OPERATION, algorithm, (seed,), staging_bytes)
    return cases.run(comm, rng, chosen, burst=2)


@everywhere
@with_every_algorithm
def test_every_boundary(ranks, algorithm, world):
    # of the staged algorithm a launch carries half of the staging slab: little, for the oracle is slow
    staging_bytes, settings = (2 << 20, {"staging_bytes": "2M"}) if algorithm == "staged" else (0, {})
    group = ranks.world(world, algorithm=algorithm, **settings)
    group.run(every_boundary, algorithm, 3, staging_bytes)


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
    assert ranks.world(world, algorithm=algorithm).run(every_alignment, 4) == [256] * world


def integer_averages(comm, rng):
    """An average of integers truncates toward zero, and is that of the wrapped sum."""
    memory = cases.arena()
    for dtype, values in (
        ("int8", [-1, -2, -3, 120]),
        ("uint8", [255, 254, 7, 1]),
        ("int64", [-(2**63)] * 2),
    ):
        numpy_dtype = np.dtype(dtype)
        own = memory.region(len(values) * numpy_dtype.itemsize)
        own.put(np.array(values, numpy_dtype))
        comm.all_reduce(own.address, own.address, "avg", count=len(values), dtype=dtype)
        sums = [value * comm.world_size for value in values]
        bits = 8 * numpy_dtype.itemsize
        if numpy_dtype.kind == "i":
            sums = [(total + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1) for total in sums]
        else:
            sums = [total % 2**bits for total in sums]
        averages = [abs(total) // comm.world_size * (-1 if total < 0 else 1) for total in sums]
        assert own.get(numpy_dtype).tolist() == averages


@pytest.mark.parametrize("world", worlds(1, 2, 3, 7))
def test_integer_averages(ranks, world):
    """The same as the oracle's, in Python's integers: the oracle itself might wrap where it must not."""
    ranks.world(world).run(integer_averages)


def rounds_once(comm, rng):
    """float16 sums are rounded at the end only: 2048 + 1 + 1 is 2050, though 2048 + 1 rounds to 2048."""
    memory = cases.arena()
    for dtype, large in (("float16", 2048.0), ("bfloat16", 256.0)):
        values = np.array([large if comm.rank == 0 else 1.0], oracle.dtype_of(dtype))
        buffer = memory.region(values.nbytes)
        buffer.put(values)
        comm.all_reduce(buffer.address, buffer.address, count=1, dtype=dtype)
        assert float(buffer.get(values.dtype)[0]) == large + 2


@pytest.mark.parametrize("world", worlds(3))
@with_every_algorithm
def test_rounds_once(ranks, algorithm, world):
    ranks.world(world, algorithm=algorithm).run(rounds_once)


def sums_in_rank_order(comm, rng):
    """1e30 + 1 - 1e30 is 0 in rank order, and 1 in another."""
    memory = cases.arena()
    buffer = memory.region(400)
    buffer.put(np.full(100, [1e30, 1.0, -1e30][comm.rank], np.float32))
    comm.all_reduce(buffer.address, buffer.address, count=100, dtype="float32")
    assert buffer.get(np.dtype(np.float32)).tolist() == [0.0] * 100


@pytest.mark.parametrize("world", worlds(3))
@with_every_algorithm
def test_sums_in_rank_order(ranks, algorithm, world):
    ranks.world(world, algorithm=algorithm).run(sums_in_rank_order)


def one_case(comm, rng, case):
    return cases.run(comm, rng, [case])


offsets = st.integers(0, 15)
any_case = st.builds(
    Case,
    operation=st.just(OPERATION),
    count=st.one_of(st.integers(0, 200), st.integers(0, 20000)),
    dtype=st.sampled_from(oracle.DTYPES),
    op=st.sampled_from(oracle.OPERATIONS),
    in_place=st.booleans(),
    offsets=st.tuples(offsets, offsets),
    kind=st.sampled_from(oracle.KINDS),
    seed=st.tuples(st.integers(0, 2**32)),
)


@pytest.mark.parametrize("world", worlds(5))
@pytest.mark.parametrize("algorithm", ("auto", *ALGORITHMS))
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
