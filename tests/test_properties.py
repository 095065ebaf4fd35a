"""Any collective, as hypothesis chooses it: operation, world, shape, dtype, reduction, root, alignment, in
place or not, in registered memory or other.

The case is drawn here and sent to the ranks, so that all of them make the same call; each rank checks its
result and that nothing else was touched. What fails is shrunk to the smallest call that does.
"""

from __future__ import annotations

from dataclasses import replace

import cases
import oracle
import pytest
from cases import OPERATIONS, Case
from harness import worlds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from regions import Arena

from hipcomm.environment import ALGORITHMS

SYMMETRIC_BYTES = 8 << 20

reproducible = settings(
    max_examples=25,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

offsets = st.integers(0, 15)


@st.composite
def calls(draw, operation):
    """A call of *operation*, for any world: its root is a number from 0 on, to be taken modulo the world."""
    count = draw(st.one_of(st.integers(0, 40), st.integers(0, 700), st.integers(0, 12_000)))
    has_rows = operation in ("reduce_scatter", "all_gather_rows")
    rows = draw(st.integers(1, 7)) if has_rows else 1
    reduces = operation in cases.REDUCING
    fields = {
        "operation": operation,
        "count": count // rows,
        "dtype": draw(st.sampled_from(oracle.ALL_DTYPES)),
        "op": draw(st.sampled_from(oracle.OPERATIONS)) if reduces else "sum",
        "root": draw(st.integers(0, 15)),
        "in_place": draw(st.booleans()),
        "offsets": (draw(offsets), draw(offsets)),
        "kind": draw(st.sampled_from(oracle.KINDS)) if reduces else "bits",
        "seed": (draw(st.integers(0, 2**32)), 0),
    }
    return Case(rows=rows, **fields)


_symmetric = {}  # by communicator: made once, for allocating is collective


def memory_of(comm, registered):
    """This rank's memory for the calls."""
    if not registered:
        return cases.arena()
    if comm not in _symmetric:
        _symmetric.clear()
        _symmetric[comm] = comm.empty(SYMMETRIC_BYTES, "uint8")
    return Arena.at(_symmetric[comm].data_ptr, SYMMETRIC_BYTES)


def make_calls(comm, rng, chosen):
    """Make calls back to back, and check them afterwards; the ranks come at different times."""
    memory = {registered: memory_of(comm, registered) for registered in (False, True)}
    made = []
    for drawn, registered in chosen:
        cases.skew(rng)
        case = replace(drawn, root=drawn.root % comm.world_size, count=drawn.count // comm.world_size)
        made.append(cases.make(comm, memory[registered], case))
    comm.synchronize()
    for each in made:
        each.check(comm)
    return len(made)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("world", worlds(1, 2, 3, 4, 5, 6, 7, 8))
@reproducible
@given(data=st.data())
def test_any_call(ranks, world, operation, data):
    chosen = [(data.draw(calls(operation)), data.draw(st.booleans()))]
    assert ranks.world(world).run(make_calls, chosen) == [1] * world


@pytest.mark.parametrize("world", worlds(2, 5))
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@reproducible
@given(data=st.data())
def test_any_calls_in_a_row(ranks, algorithm, world, data):
    """What one call leaves behind, the next one might trip over."""
    any_call = st.sampled_from(OPERATIONS).flatmap(calls)
    chosen = data.draw(st.lists(st.tuples(any_call, st.booleans()), min_size=2, max_size=8))
    made = ranks.world(world, algorithm=algorithm).run(make_calls, chosen)
    assert made == [len(chosen)] * world


def every_operation():
    """Each operation, small and large, in registered memory and other; the roots are ranks beyond eight."""
    chosen = []
    for number, operation in enumerate(OPERATIONS):
        for size, count in enumerate((0, 100, 70_000)):
            for registered in (False, True):
                seed = (number, size, int(registered))
                dtype = ("float32", "bfloat16", "float8_e4m3fn")[(number + size) % 3]
                case = Case(operation, count, dtype, "avg", 8 + number % 4, kind="plain", seed=seed)
                chosen.append((case, registered))
    return chosen


@pytest.mark.parametrize("world", worlds(12, 16))
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_operation_in_large_worlds(ranks, algorithm, world):
    chosen = every_operation()
    made = ranks.world(world, algorithm=algorithm).run(make_calls, chosen)
    assert made == [len(chosen)] * world


@pytest.mark.parametrize("world", worlds(9, 10, 11, 13, 14, 15))
def test_every_operation_in_the_other_large_worlds(ranks, world):
    chosen = every_operation()
    assert ranks.world(world).run(make_calls, chosen) == [len(chosen)] * world
