"""Worlds of ranks with C's control plane and of ranks with Python's, both ways round."""

from __future__ import annotations

import itertools
import signal

import cases
import messages
import numpy as np
import pytest
from attempts import timed_attempt
from harness import PLATFORM, worlds
from test_failures import SOON, call_twice_and_close, good_call, operation_of
from test_mixed import mixed_calls
from test_send_recv import parts, random_message
from test_symmetric import reduce_in

from hipcomm.errors import InvalidArgument

pytestmark = pytest.mark.skipif(PLATFORM != "cpu" or not worlds(4), reason="the CPU platform is enough")

# by world: which ranks are in C
WORLDS = [
    (1, (0,)),
    (2, (0,)),
    (2, (1,)),
    (2, (0, 1)),
    (3, (0, 2)),
    (3, (1,)),
    (4, (0, 3)),
    (4, (1, 2)),
    (4, (0, 1, 2, 3)),
]
mixtures = pytest.mark.parametrize(
    "world, in_c", WORLDS, ids=[f"{world}-C{''.join(map(str, in_c))}" for world, in_c in WORLDS]
)


@mixtures
def test_collectives(ranks, world, in_c):
    """All of them, all dtypes, many sizes, compared with the oracle for equality."""
    made = ranks.world(world, in_c=in_c).run(mixed_calls, 51, 400)
    assert made == [400] * world


def random_life(comm, rng, steps, seed):
    """Allocate, use and free symmetric memory at random, all ranks alike; then free what is left."""
    shared = np.random.default_rng(seed)
    held = []
    for step in range(steps):
        cases.skew(rng)
        if held and (len(held) > 6 or shared.random() < 0.4):
            held.pop(int(shared.integers(len(held)))).free()
            continue
        large = shared.random() < 0.15
        held.append(comm.empty(int(shared.integers(1 << 19 if large else 0, 3 << 19 if large else 5000))))
        spans = sorted((array.data_ptr, array.data_ptr + array.nbytes) for array in held)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
        assert comm.plan("all_reduce", 8 << 20, registered=True).algorithm == "direct" or comm.world_size == 1
        reduce_in(comm, held[int(shared.integers(len(held)))], step % 5)
    while held:
        held.pop().free()


@mixtures
def test_symmetric_memory(ranks, world, in_c):
    ranks.world(world, in_c=in_c).run(random_life, 60, 52)


def different_memory_freed(comm, rng):
    first, second = comm.empty(1000), comm.empty(1000)
    with pytest.raises(InvalidArgument, match="free different arrays: allocations"):
        comm._session.heap.free(second if comm.rank == 0 else first)
    with pytest.raises(InvalidArgument, match="asks for"):
        comm.empty(1000 + comm.rank)
    second.free()
    first.free()


@pytest.mark.parametrize("in_c", [(0,), (1, 2)])
def test_different_memory(ranks, in_c):
    ranks.world(3, in_c=in_c).run(different_memory_freed)


def parts_by_kind(comm, rng, seed):
    """Parts of parts, some ranks in none, used in turns with the whole."""
    parts(comm, rng, seed)
    first = comm.split(comm.rank // 2, -comm.rank)
    assert comm.split(None if comm.rank == 1 else 7) is None or comm.rank != 1
    inner = first.split(0)
    for turn in range(3):
        message = random_message(np.random.default_rng(turn), first.world_size, (seed, turn))
        messages.run(first, rng, [message])
        messages.run(inner, rng, [message])
    first.close()  # the inner one outlives it
    messages.run(inner, rng, [random_message(np.random.default_rng(9), inner.world_size, (seed, 9))])
    inner.close()


@pytest.mark.parametrize("in_c", [(0, 3), (1, 2), (0, 1, 2, 3)])
def test_split(own_ranks, in_c):
    world = own_ranks.world(4, in_c=in_c)
    world.run(parts_by_kind, 53)
    world.close()


def hit_waiting(world, victim):
    others = [rank for rank in range(world.size) if rank != victim]
    for rank in others:
        world.start(rank, call_twice_and_close, "all_reduce", 100)
    for rank in others:
        assert world.finish(rank).value == "calling"
    world.wait_until_they_wait(others)
    return others


@pytest.mark.parametrize("in_c", [(1,), (0, 2), (0,), (0, 1, 2)])
def test_a_rank_is_killed(own_ranks, in_c):
    """Rank 1, of either kind; the others, of both kinds, name it."""
    world = own_ranks.world(3, in_c=in_c)
    world.run(good_call)
    others = hit_waiting(world, 1)
    world.signal(1, signal.SIGKILL)
    for rank in others:
        reply = world.finish(rank)
        assert reply.error is None, reply.error
        first, second, waited, closing = reply.value
        for name, message, peer in (first, second):
            assert (name, peer) == ("PeerDied", 1), message
            assert "rank 1 died: its connection closed without leaving" in message
        assert waited < SOON and closing < SOON
        print(f"rank {rank}: PeerDied within {waited:.3f} s; closing took {closing:.3f} s")


def abort_or_wait(comm, rng, aborter):
    if comm.rank == aborter:
        comm.abort("out of cheese")
    found, _ = timed_attempt(lambda: operation_of(comm, "all_reduce", 100))
    comm.close()
    return found


@pytest.mark.parametrize("in_c", [(1,), (0, 2), (0, 1, 2)])
def test_abort(own_ranks, in_c):
    world = own_ranks.world(3, in_c=in_c)
    for name, message, peer in world.run(abort_or_wait, 1):
        assert (name, peer) == ("PeerDied", 1), message
        assert "out of cheese" in message
    world.abandon()


def never_comes(comm, rng, absent):
    """The others' time-out; closing waits for nobody."""
    if comm.rank == absent:
        return None
    found, took = timed_attempt(lambda: operation_of(comm, "all_reduce", 100))
    _, closing = timed_attempt(comm.close)
    return found, took, closing


@pytest.mark.parametrize("in_c", [(1,), (0, 2)])
def test_a_rank_never_comes(own_ranks, in_c):
    world = own_ranks.world(3, in_c=in_c, timeout=0.7)
    for outcome in world.run(never_comes, 1):
        if outcome is None:
            continue
        (name, message, peer), took, closing = outcome
        assert (name, peer) == ("PeerTimeout", 1), message
        assert "HIPCOMM_TIMEOUT sets how long to wait" in message
        assert took < SOON and closing < SOON
    world.abandon()


def register_and_use(comm, rng):
    """Memory that hipcomm has not allocated: a piece of an allocation, and what is refused."""
    from regions import arena

    region = arena().region(1 << 16)
    comm.register(region.address, 1 << 16)
    comm.all_reduce(region.address, region.address, count=1 << 13, dtype="float32")
    comm.synchronize()
    with pytest.raises(InvalidArgument, match="registered already"):
        comm.register(region.address, 64)
    with pytest.raises(InvalidArgument, match="nothing registered begins at"):
        comm.deregister(region.address + 64)
    comm.deregister(region.address)
    with pytest.raises(InvalidArgument, match="it is not device memory"):
        comm.register(0x1000 if comm.rank else region.address, 64)


@pytest.mark.parametrize("in_c", [(0,), (1, 2), (0, 1, 2)])
def test_register(ranks, in_c):
    ranks.world(3, in_c=in_c).run(register_and_use)


@pytest.mark.parametrize("in_c", [(0,), (1,), (0, 1)])
def test_calls_are_compared(own_ranks, in_c):
    world = own_ranks.world(2, in_c=in_c, check=True)
    for name, message, _ in world.run(call_differently):
        assert name == "CallMismatch", message
        assert (
            "rank 0 calls all_reduce(count 100" in message and "rank 1 calls all_reduce(count 101" in message
        )
    world.abandon()


def call_differently(comm, rng):
    found, _ = timed_attempt(lambda: operation_of(comm, "all_reduce", 100 + comm.rank))
    comm.close()
    return found
