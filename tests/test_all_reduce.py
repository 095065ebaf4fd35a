"""all_reduce: every algorithm gives the oracle's bits, for every dtype, operation, size and address."""

from __future__ import annotations

import itertools

import cases
import numpy as np
import oracle
import pytest
from cases import Case, random_case
from conftest import ALGORITHMS, worlds

OPERATION = "all_reduce"


def every_dtype_and_operation(comm, rng, seed):
    shared = np.random.default_rng(seed)
    chosen = []
    for dtype, op, kind in itertools.product(oracle.DTYPES, oracle.OPERATIONS, oracle.KINDS):
        call = (seed, len(chosen))
        chosen.append(random_case(shared, comm.world_size, call, OPERATION, dtype=dtype, op=op, kind=kind))
    return cases.run(comm, rng, chosen)


@pytest.mark.parametrize("world", worlds(1, 2, 3, 4, 5, 6, 7, 8))
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_dtype_and_operation(ranks, algorithm, world):
    made = ranks.world(world, HIPCOMM_ALGORITHM=algorithm).run(every_dtype_and_operation, 1)
    assert made == [150] * world
