"""8-bit floats are reduced in float32 and rounded once, as ml_dtypes rounds: for every pair of codes."""

from __future__ import annotations

import cases
import numpy as np
import oracle
import pytest
from harness import ALGORITHMS, worlds


def every_pair(comm, rng, dtype, op):
    """Rank 0 has each code 256 times in a row, rank 1 all codes 256 times over; others are fixed."""
    codes = np.arange(256, dtype=np.uint8)
    numpy_dtype = oracle.dtype_of(dtype)
    inputs = [np.repeat(codes, 256), np.tile(codes, 256)]
    inputs += [np.full(65536, 0x2C + peer, np.uint8) for peer in range(2, comm.world_size)]
    inputs = [data.view(numpy_dtype) for data in inputs]
    buffer = cases.arena().region(65536)
    buffer.put(inputs[comm.rank])
    comm.all_reduce(buffer.address, buffer.address, op, count=65536, dtype=dtype)
    problem = oracle.difference(buffer.get(numpy_dtype), oracle.reduce(inputs, op))
    assert not problem, f"{op} of {dtype}: {problem}"


def every_pair_of_all(comm, rng):
    for dtype in oracle.FLOAT8:
        for op in oracle.OPERATIONS:
            every_pair(comm, rng, dtype, op)


@pytest.mark.parametrize("world", worlds(2, 3))
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_pair_of_codes(ranks, algorithm, world):
    ranks.world(world, algorithm=algorithm).run(every_pair_of_all)
