"""Epochs: across the end of the 32-bit counter, across the wipe of old flags, and why it is there."""

from __future__ import annotations

import ctypes

import cases
import numpy as np
import oracle
import pytest
from cases import Case, random_case
from harness import ALGORITHMS, worlds
from slabs import SLABS
from test_mixed import mixed_calls

from hipcomm.core import ffi
from hipcomm.hip import call, hip

LAST_EPOCH = 2**32 - 1
SCRUB_PERIOD = SLABS["SCRUB_PERIOD"]  # flags are wiped at 2 and 3 epochs past its multiples
MAX_BLOCKS = SLABS["MAX_BLOCKS"]  # epoch words at the beginning of the control slab
LINES, PIPELINED = 5000, 50_000  # elements of calls that leave lines, and signals


@pytest.mark.parametrize("world", worlds(2, 3, 8))
@pytest.mark.parametrize("first_epoch", (LAST_EPOCH - 4, SCRUB_PERIOD - 3, 3 * SCRUB_PERIOD - 4))
@pytest.mark.parametrize("algorithm", ("auto", *ALGORITHMS))
def test_calls_go_on_as_ever(ranks, algorithm, first_epoch, world):
    ranks.world(world, first_epoch, algorithm=algorithm).run(mixed_calls, first_epoch % 1000, 60)


def calls_of_many_blocks(comm, rng, operation, seed):
    """A few calls of several blocks, right at the wipe."""
    shared = np.random.default_rng((44, seed))
    chosen = [
        random_case(shared, comm.world_size, (44, seed, number), operation, count=30_000, dtype="uint8")
        for number in range(3)
    ]
    return cases.run(comm, rng, chosen, burst=3)


@pytest.mark.parametrize("world", worlds(2, 4))
@pytest.mark.parametrize("operation", ("all_gather", "all_to_all", "all_to_all_v", "gather", "reduce"))
def test_the_wipe_harms_no_call(ranks, operation, world):
    """What peers send while this rank wipes must not be wiped: all blocks wipe, each a part, and some calls
    have blocks that need not wait for any peer."""
    group = ranks.world(world, 7, algorithm="one_shot")
    for number in range(50):
        group.run(set_epoch, number % 4 * SCRUB_PERIOD + 2)  # every number comes back wiped
        group.run(calls_of_many_blocks, operation, number)


# ---- the stale line --------------------------------------------------------------------------------


def _epoch_words(comm):
    slab = comm._session._slabs.control[comm.rank]
    return ctypes.c_void_p(int(ffi.cast("uintptr_t", slab)))


def read_epoch(comm, rng):
    words = np.zeros(1, np.uint32)
    call("hipMemcpy", words, _epoch_words(comm), words.nbytes, hip().hipMemcpyKind.hipMemcpyDeviceToHost)
    return int(words[0])


def set_epoch(comm, rng, epoch):
    """What billions of calls would do. No rank may be in a call."""
    words = np.full(MAX_BLOCKS, epoch, np.uint32)
    call("hipMemcpy", _epoch_words(comm), words, words.nbytes, hip().hipMemcpyKind.hipMemcpyHostToDevice)


def one_all_reduce(comm, rng, count, number):
    """A call that reads whatever lies in rank 0's slab; None if its result is right."""
    case = Case("all_reduce", count, kind="plain", seed=(41, number))
    made = cases.make(comm, cases.arena(), case)
    comm.synchronize()
    got = made.recv.get(np.dtype(np.float32))
    return oracle.difference(got, case.results(comm.world_size)[0]) or None


def all_reduce_with_rank_0_late(world, count, number):
    """What the ranks find; all others look for what rank 0 writes long before it does."""
    ranks = range(world.size)
    for rank in ranks[1:]:
        world.start(rank, one_all_reduce, count, number)
    world.wait_until_they_wait(ranks[1:])
    world.start(0, one_all_reduce, count, number)
    replies = [world.finish(rank) for rank in ranks]
    assert [reply.error for reply in replies] == [None] * world.size
    return [reply.value for reply in replies]


def barriers(comm, rng, calls):
    """Calls that use signals and no lines."""
    for _ in range(calls):
        comm.barrier()
    comm.synchronize()


def small_calls(comm, rng, calls):
    """Calls that use a few lines and no signals."""
    return cases.run(comm, rng, [Case("all_gather", 3, seed=(42, number)) for number in range(calls)])


@pytest.fixture
def world_with_old_lines(own_ranks):
    """A world in which a large call at epoch 1000 has left lines that no later call has overwritten."""
    if not worlds(3):
        pytest.skip("needs 3 devices")
    world = own_ranks.world(3, 1000, algorithm="one_shot")
    assert all_reduce_with_rank_0_late(world, LINES, 0) == [None] * 3
    assert world.run(read_epoch) == [1001] * 3
    return world


@pytest.mark.parametrize("turn", range(4))
def test_old_lines_are_wiped_before_their_epoch_returns(world_with_old_lines, turn):
    world = world_with_old_lines
    scrub = turn * SCRUB_PERIOD + 2
    world.run(set_epoch, scrub)
    world.run(barriers, 2)
    assert world.run(read_epoch) == [scrub + 2] * 3
    world.run(set_epoch, 1000)  # a whole turn of the counter later
    assert all_reduce_with_rank_0_late(world, LINES, 1) == [None] * 3


def test_without_the_wipe_old_lines_are_taken_for_new(world_with_old_lines):
    """That the test above can fail: the same without the epochs at which flags are wiped."""
    world = world_with_old_lines
    world.run(set_epoch, 1000)
    problems = all_reduce_with_rank_0_late(world, LINES, 1)
    assert problems[1] and problems[2]


@pytest.mark.parametrize("wiped", (True, False))
@pytest.mark.parametrize("world", worlds(3))
def test_old_signals_are_wiped_too(own_ranks, world, wiped):
    """The same for the signals of the pipelined algorithms."""
    three = own_ranks.world(world, 1000)
    assert all_reduce_with_rank_0_late(three, PIPELINED, 0) == [None] * world
    if wiped:
        three.run(set_epoch, SCRUB_PERIOD + 2)
        three.run(small_calls, 2)
    three.run(set_epoch, 1000)
    problems = all_reduce_with_rank_0_late(three, PIPELINED, 1)
    assert [problem is None for problem in problems[1:]] == [wiped] * (world - 1)
