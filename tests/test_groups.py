"""Groups of sends and receives: messages that would wait for each other one by one."""

from __future__ import annotations

import signal
import threading

import messages
import numpy as np
import oracle
import pytest
import rank_worker
from attempts import timed_attempt
from counting import ASK, LAUNCH, RECORD, WAIT, Counted
from harness import PLATFORM, worlds
from messages import Message
from regions import Arena
from test_failures import SOON

from hipcomm.core import lib
from hipcomm.errors import InvalidArgument
from hipcomm.hip import call, hip

LONG = 300_000  # bytes: through the ring, so that a send waits for its receive


def everything_at_once(shared, world, number):
    """Messages from all to all, several between some, short and long, in an order of their own."""
    pairs = [(source, dest) for source in range(world) for dest in range(world) if source != dest]
    chosen = [pair for pair in pairs for _ in range(int(shared.integers(0, 4)))]
    shared.shuffle(chosen)
    sizes = (0, 1, 500, 9_000, LONG, 1_300_001)
    return [
        Message(source, dest, oracle.pick(shared, sizes), seed=(91, number, at))
        for at, (source, dest) in enumerate(map(tuple, chosen))
    ]


def groups(comm, rng, rounds):
    shared, arena = np.random.default_rng(92), Arena(64 << 20)
    made = 0
    for number in range(rounds):
        chosen = everything_at_once(shared, comm.world_size, number)
        if comm.rank % 2:  # another order than on the other ranks, except between two of them
            chosen.sort(key=lambda message: (message.dest, message.source))
        with comm.group():
            ends = [messages.make(comm, arena, message) for message in chosen]
        comm.synchronize()
        for end in ends:
            if end is not None:
                end.check(comm)
                made += 1
        arena.reset()
        comm.barrier()
    return made


@pytest.mark.parametrize("world", worlds(2, 3, 4))
def test_all_to_all_at_once(ranks, world):
    assert sum(ranks.world(world).run(groups, 12)) > 12


@pytest.mark.skipif(PLATFORM != "cpu", reason="the CPU platform is enough")
@pytest.mark.parametrize("in_c", [(0,), (1, 2)])
def test_ranks_in_c_and_python(ranks, in_c):
    assert sum(ranks.world(3, in_c=in_c).run(groups, 6)) > 6


def what_a_group_refuses(comm, rng):
    other = 1 - comm.rank
    x, y = np.full(10, comm.rank, np.int32), np.zeros(10, np.int32)
    assert lib.hipcommGroupEnd() == lib.hipcommInvalidArgument
    with pytest.raises(InvalidArgument, match="peer"), comm.group():
        comm.send(x, other)
        comm.send(x, comm.rank)
    with pytest.raises(ZeroDivisionError), comm.group():
        comm.send(x, other)
        comm.send(1 // 0, other)
    stream = call("hipStreamCreateWithFlags", hip().hipStreamNonBlocking)
    with pytest.raises(InvalidArgument, match="one stream"), comm.group():
        comm.send(x, other)
        comm.recv(y, other, stream=stream)
    comm.all_reduce(x.copy())  # nothing was launched
    with comm.group(), comm.group():
        comm.send(np.full(10, comm.rank + 5, np.int32), other)  # a temporary array
        comm.recv(y, other)
        assert (y == 0).all()
    comm.synchronize()
    assert (y == other + 5).all()
    if comm.device.host_is_device:
        mode = hip().hipStreamCaptureMode.hipStreamCaptureModeThreadLocal
        call("hipStreamBeginCapture", stream, mode)
        with pytest.raises(InvalidArgument, match="cannot be captured"), comm.group():
            comm.send(x, other, stream=stream)
            comm.recv(y, other, stream=stream)
        call("hipGraphDestroy", call("hipStreamEndCapture", stream))
    with comm.group():
        pass


@pytest.mark.host_arrays
@pytest.mark.parametrize("world", worlds(2))
def test_what_a_group_refuses(ranks, world):
    ranks.world(world).run(what_a_group_refuses)


def wait_in_a_group(comm, rng, victim):
    x, y = np.ones(LONG, np.uint8), np.zeros(LONG, np.uint8)
    comm.barrier()
    rank_worker.say("calling")
    if comm.rank == victim:
        threading.Event().wait(60)

    def both():
        with comm.group():
            for peer in range(comm.world_size):
                if peer != comm.rank:
                    comm.send(x, peer)
                    comm.recv(y, peer)

    found, took = timed_attempt(both)
    comm.close()
    return found, took


@pytest.mark.host_arrays
@pytest.mark.parametrize("in_c", [(), (0,)])
def test_a_rank_is_killed(own_ranks, in_c):
    world = own_ranks.world(3, in_c=in_c)
    for rank in range(3):
        world.start(rank, wait_in_a_group, 1)
    for rank in range(3):
        assert world.finish(rank).value == "calling"
    world.wait_until_they_wait([0, 2])
    world.signal(1, signal.SIGKILL)
    for rank in (0, 2):
        reply = world.finish(rank)
        assert reply.error is None, reply.error
        (name, message, peer), took = reply.value
        assert (name, peer) == ("PeerDied", 1), message
        assert took < SOON


def lengths_that_differ(comm, rng):
    x, y = np.ones(LONG, np.uint8), np.zeros(LONG + comm.rank, np.uint8)

    def both():
        with comm.group():
            comm.send(x, 1 - comm.rank)
            comm.recv(y, 1 - comm.rank)

    found, _ = timed_attempt(both)
    comm.close()
    return found


@pytest.mark.host_arrays
def test_lengths_differ(own_ranks):
    world = own_ranks.world(2)
    (sender, _, _), (receiver, message, _) = world.run(lengths_that_differ)
    assert receiver == "CallMismatch"
    assert f"rank 0 sends {LONG} bytes, rank 1 expects {LONG + 1}" in message
    assert sender in ("CallMismatch", "PeerDied", "none")  # it may learn of it at its next send
    world.abandon()


def on_streams(comm, rng, directory):
    """What a GPU does, with messages that need no receiver: in lanes between two events; and captured."""
    counted = Counted(comm, directory, side_by_side=True)
    part = counted.comm
    peers = [rank for rank in range(part.world_size) if rank != part.rank]
    stream = call("hipStreamCreateWithFlags", hip().hipStreamNonBlocking)
    sent = [np.full(50, 100 * part.rank + peer, np.int32) for peer in peers]
    got = [np.zeros(50, np.int32) for _ in peers]

    def group():
        with part.group():
            for peer, x, y in zip(peers, sent, got, strict=True):
                part.send(x, peer, stream=stream)
                part.send(x, peer, stream=stream)
                part.recv(y, peer, stream=stream)
                part.recv(y, peer, stream=stream)

    calls = counted.calls_of(group)
    for lane in range(2 * len(peers)):  # the first of all also asks whether it is captured
        one = [RECORD, WAIT, LAUNCH, LAUNCH, RECORD, WAIT]
        made = [name for name in calls if name not in (ASK, "hipEventCreateWithFlags")][6 * lane :][:6]
        assert made == one, calls
    part.synchronize(stream=stream)
    for peer, y in zip(peers, got, strict=True):
        assert (y == 100 * peer + part.rank).all()
    part.barrier()

    mode = hip().hipStreamCaptureMode.hipStreamCaptureModeThreadLocal
    call("hipStreamBeginCapture", stream, mode)
    group()
    graph = call("hipStreamEndCapture", stream)
    executable = call("hipGraphInstantiateWithFlags", graph, 0)
    for turn in range(3):
        for at, peer in enumerate(peers):
            sent[at][:] = 100 * part.rank + peer + 1000 * turn
            got[at][:] = -1
        part.barrier()
        call("hipGraphLaunch", executable, stream)
        part.synchronize(stream=stream)
        for peer, y in zip(peers, got, strict=True):
            assert (y == 100 * peer + part.rank + 1000 * turn).all()
    part.close()


@pytest.mark.host_arrays
@pytest.mark.parametrize("world", worlds(2, 3))
def test_on_streams(ranks, world, shim_source):
    ranks.world(world).run(on_streams, shim_source)
