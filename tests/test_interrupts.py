"""Signals while a call waits: handlers run, and what they raise ends the call, here and on the others."""

from __future__ import annotations

import signal
import threading
import time

import numpy as np
import pytest
from harness import PLATFORM, worlds
from regions import arena

import hipcomm
from hipcomm.core import ffi, lib
from hipcomm.hip import call, hip

SOON = 10.0  # seconds; one is the goal: a busy machine must not fail a test
DELAY = 0.3  # seconds until the signal comes: the call waits then

pytestmark = pytest.mark.skipif(not worlds(2), reason="needs 2 devices")
on_the_cpu = pytest.mark.skipif(PLATFORM != "cpu", reason="there the launch itself waits")


class Stop(BaseException):
    """What a handler raises: as KeyboardInterrupt, it is no Exception."""


def raise_stop(*_):
    raise Stop("now")


def buffer_of(count):
    region = arena().region(8 * count)
    region.put(np.ones(2 * count, np.float32))
    return region.address


def all_reduce(comm, count):
    address = buffer_of(count)
    comm.all_reduce(address, address, count=count, dtype="float32")
    comm.synchronize()


def receive(comm, count):
    comm.recv(buffer_of(count), 1 - comm.rank, count=count, dtype="float32")
    comm.synchronize()


def send(comm, count):
    comm.send(buffer_of(count), 1 - comm.rank, count=count, dtype="float32")
    comm.synchronize()


def barrier(comm, _):
    comm.barrier()
    comm.synchronize()


WAITS = {
    "all_reduce": (all_reduce, 100),
    "a long all_reduce": (all_reduce, 3_000_000),
    "barrier": (barrier, 0),
    "recv": (receive, 100),
    "a long send": (send, 3_000_000),
    "split": (lambda comm, _: comm.split(0), 0),
    "empty": (lambda comm, count: comm.empty(count), 10),
    "close": (lambda comm, _: comm.close(), 0),
}


def later(signals_self):
    """Have SIGALRM come after DELAY: to the process, or to a thread that is not the main one."""
    if signals_self:
        signal.setitimer(signal.ITIMER_REAL, DELAY)
    else:
        threading.Timer(DELAY, signal.raise_signal, [signal.SIGALRM]).start()


def interrupted(comm, rng, name, to_process, handler=raise_stop):
    """What a call raises whose peer does not come, how long that took, and what comes next."""
    barrier(comm, 0)
    signal.signal(signal.SIGALRM, handler)
    wait, count = WAITS[name]
    began = time.monotonic()
    later(to_process)
    try:
        wait(comm, count)
        raised = None
    except BaseException as error:  # noqa: BLE001  whatever it is
        raised = (type(error), str(error))
    took = time.monotonic() - began
    after = None
    if name != "close":
        if name in ("split", "empty"):
            comm.abort("Stop: now")  # as a with-block does
        try:
            barrier(comm, 0)
        except hipcomm.PeerDied as error:
            after = error.peer, str(error)
        began = time.monotonic()
        comm.close()
    return raised, took, after, time.monotonic() - began


def hears(comm, rng):
    began = time.monotonic()
    try:
        for _ in range(2):
            barrier(comm, 0)
    except hipcomm.PeerDied as error:
        return error.peer, str(error), time.monotonic() - began
    return None


@pytest.mark.parametrize("to_process", [True, False], ids=["main", "another thread"])
@pytest.mark.parametrize("name", WAITS)
def test_what_a_handler_raises_ends_the_call(own_ranks, name, to_process):
    world = own_ranks.world(2)
    world.start(0, interrupted, name, to_process)
    world.start(1, idle_first)
    raised, took, after, closing = world.finish(0).value
    assert raised == (Stop, "now")
    assert DELAY <= took < SOON
    assert closing < SOON
    if name != "close":
        assert after[0] == 0
        assert "Stop: now" in after[1]
    assert world.finish(1).error is None
    world.start(1, hears)
    peer, _, took = world.finish(1).value
    assert peer == 0
    assert took < SOON
    world.abandon()


def idle_first(comm, rng):
    barrier(comm, 0)


def counted(comm, rng):
    """A handler that returns leaves the call alone."""
    seen = []
    barrier(comm, 0)
    if comm.rank == 0:
        signal.signal(signal.SIGALRM, lambda *_: seen.append(time.monotonic()))
        later(True)
    else:
        time.sleep(3 * DELAY)
    began = time.monotonic()
    all_reduce(comm, 100)
    return [when - began for when in seen], time.monotonic() - began


def test_a_handler_that_returns_leaves_the_call_alone(own_ranks):
    (seen, took), _ = own_ranks.world(2).run(counted)
    assert len(seen) == 1
    assert seen[0] < took


def graph_of(comm):
    stream = call("hipStreamCreateWithFlags", hip().hipStreamNonBlocking)
    call("hipStreamBeginCapture", stream, hip().hipStreamCaptureMode.hipStreamCaptureModeThreadLocal)
    comm.barrier(stream=stream)
    return call("hipGraphInstantiateWithFlags", call("hipStreamEndCapture", stream), 0), stream


def interrupted_graph(comm, rng):
    """The launch is not a call of ours, and nobody asks us afterwards."""
    graph, stream = graph_of(comm)
    barrier(comm, 0)
    signal.signal(signal.SIGALRM, raise_stop)
    later(True)
    began = time.monotonic()
    try:
        call("hipGraphLaunch", graph, stream)
        while time.monotonic() < began + 60:
            time.sleep(0.01)
    except Stop as error:
        return str(error), time.monotonic() - began
    return None


@on_the_cpu
def test_a_graphs_launch_is_interrupted(own_ranks):
    world = own_ranks.world(2)
    world.start(1, idle_first)
    world.start(0, interrupted_graph)
    message, took = world.finish(0).value
    assert message == "now"
    assert took < SOON
    world.abandon()


def handler_that_calls(comm, rng):
    barrier(comm, 0)
    signal.signal(signal.SIGALRM, lambda *_: comm.barrier())
    later(True)
    with pytest.raises(hipcomm.InvalidArgument, match="waits in a call on this communicator"):
        barrier(comm, 0)


def handler_that_closes(comm, rng):
    closed = []
    barrier(comm, 0)

    def close(*_):
        began = time.monotonic()
        comm.close()
        closed.append(time.monotonic() - began)

    signal.signal(signal.SIGALRM, close)
    later(True)
    with pytest.raises(hipcomm.Error):
        barrier(comm, 0)
    return closed[0]


@on_the_cpu
@pytest.mark.parametrize("body", [handler_that_calls, handler_that_closes])
def test_a_handler_cannot_use_the_communicator_that_waits(own_ranks, body):
    """Its call would run in the middle of another one."""
    world = own_ranks.world(2)
    world.start(1, idle_first)
    world.start(0, body)
    reply = world.finish(0)
    assert reply.error is None, reply.error
    assert (reply.value or 0) < SOON
    world.abandon()


def ended_by_the_program(comm, rng):
    """As a C program does it."""
    asked = []

    @ffi.callback("hipcommInterruptFunction")
    def function(context):
        asked.append(context == ffi.NULL)
        return len(asked) == 3

    barrier(comm, 0)
    assert lib.hipcommCommSetInterrupt(comm._session.comm, function, ffi.NULL) == 0
    with pytest.raises(hipcomm.PeerDied, match="its program has ended the wait") as caught:
        barrier(comm, 0)
    assert caught.value.peer == comm.rank
    assert lib.hipcommCommSetInterrupt(comm._session.comm, ffi.NULL, ffi.NULL) == 0
    return asked


def test_the_interrupt_function_ends_a_wait(own_ranks):
    world = own_ranks.world(2)
    world.start(1, idle_first)
    world.start(0, ended_by_the_program)
    reply = world.finish(0)
    assert reply.error is None, reply.error
    assert reply.value == [True] * 3
    world.abandon()
