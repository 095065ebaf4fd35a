"""broadcast: the root's elements everywhere, for every root, dtype, size and address."""

from __future__ import annotations

import itertools

import cases
import numpy as np
import oracle
import pytest
from cases import random_case
from harness import worlds

from hipcomm.core import ffi, lib

OPERATION = "broadcast"
everywhere = pytest.mark.parametrize("world", worlds(1, 2, 3, 4, 5, 6, 7, 8))
with_every_algorithm = pytest.mark.parametrize("algorithm", ("one_shot", "pipelined"))


def every_root_and_dtype(comm, rng, seed):
    shared = np.random.default_rng(seed)
    chosen = [
        random_case(shared, comm.world_size, (seed, number), OPERATION, dtype=dtype, root=root, kind="bits")
        for number, (dtype, root) in enumerate(itertools.product(oracle.DTYPES, range(comm.world_size)))
    ]
    return cases.run(comm, rng, chosen)


@everywhere
@with_every_algorithm
def test_every_root_and_dtype(ranks, algorithm, world):
    made = ranks.world(world, algorithm=algorithm).run(every_root_and_dtype, 21)
    assert made == [10 * world] * world


@pytest.mark.parametrize("world", worlds(12, 16))
@with_every_algorithm
def test_large_worlds(ranks, algorithm, world):
    ranks.world(world, algorithm=algorithm).run(every_root_and_dtype, 22)


def every_boundary(comm, rng, algorithm, seed):
    shared = np.random.default_rng(seed)
    return cases.run(comm, rng, cases.boundary_cases(comm, shared, OPERATION, algorithm, (seed,)), burst=2)


@everywhere
@with_every_algorithm
def test_every_boundary(ranks, algorithm, world):
    ranks.world(world, algorithm=algorithm).run(every_boundary, algorithm, 23)


def every_alignment(comm, rng, seed):
    shared = np.random.default_rng(seed)
    chosen = [
        random_case(shared, comm.world_size, (seed, number), OPERATION, offsets=(number % 16, 0))
        for number in range(128)
    ]
    return cases.run(comm, rng, chosen, burst=16)


@pytest.mark.parametrize("world", worlds(2, 3))
@with_every_algorithm
def test_every_alignment(ranks, algorithm, world):
    ranks.world(world, algorithm=algorithm).run(every_alignment, 24)


def alignment_of_each_rank(comm, rng):
    """The ranks' addresses need not be alike."""
    memory = cases.arena()
    for number in range(64):
        data = oracle.make_input((25, number), 0, 77, np.dtype(np.uint8), "bits")
        buffer = memory.region(data.nbytes, int(rng.integers(0, 16)))
        root = number % comm.world_size
        if comm.rank == root:
            buffer.put(data)
        comm.broadcast(buffer.address, root, count=data.size, dtype="uint8")
        assert not oracle.difference(buffer.get(data.dtype), data)


@pytest.mark.parametrize("world", worlds(4))
@with_every_algorithm
def test_alignment_of_each_rank(ranks, algorithm, world):
    ranks.world(world, algorithm=algorithm).run(alignment_of_each_rank)


def two_buffers(comm, rng):
    """hipcommBroadcast() as C callers know it: a sendbuf that only the root has, and a recvbuf."""
    memory = cases.arena()
    for number, count in enumerate((1, 50, 70_000)):
        data = oracle.make_input((26, number), 0, count, np.dtype(np.uint8), "bits")
        root = number % comm.world_size
        send, recv = memory.region(count, 1), memory.region(count, 3)
        send.put(data)
        result = lib.hipcommBroadcast(
            ffi.cast("void *", send.address) if comm.rank == root else ffi.NULL,
            ffi.cast("void *", recv.address),
            count,
            lib.hipcommUint8,
            root,
            comm._comm,
            ffi.NULL,
        )
        assert result == lib.hipcommSuccess
        comm.synchronize()
        assert not oracle.difference(recv.get(data.dtype), data)


@pytest.mark.parametrize("world", worlds(1, 4))
@with_every_algorithm
def test_two_buffers(ranks, algorithm, world):
    ranks.world(world, algorithm=algorithm).run(two_buffers)


def read_only_on_the_root(comm, rng):
    data = np.full(10, comm.rank, np.float32)
    if comm.rank == 1:
        data.flags.writeable = False
    comm.broadcast(data, root=1)
    assert data.tolist() == [1.0] * 10


@pytest.mark.host_arrays
@pytest.mark.parametrize("world", worlds(3))
def test_read_only_on_the_root(ranks, world):
    ranks.world(world).run(read_only_on_the_root)
