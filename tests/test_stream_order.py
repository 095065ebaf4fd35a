"""What ordering the streams costs: the HIP calls that an eager call makes, seen by a library in between."""

from __future__ import annotations

import threading

import pytest
from counting import ASK, LAUNCH, RECORD, STOP, WAIT, Counted
from harness import worlds

from hipcomm.hip import call, hip

PER_THREAD = 2  # hipStreamPerThread

some_worlds = pytest.mark.parametrize("world", worlds(2, 3))


def new_stream():
    return call("hipStreamCreateWithFlags", hip().hipStreamNonBlocking)


def one_stream(comm, rng, directory):
    """After the first call on it, a program with one stream pays for its launches and for nothing else."""
    counted = Counted(comm, directory)
    assert [counted.barrier() for _ in range(3)] == [[LAUNCH]] * 3
    stream = new_stream()
    assert counted.barrier(stream) == [ASK, RECORD, WAIT, LAUNCH]  # the default stream's end, marked late
    assert [counted.barrier(stream) for _ in range(3)] == [[LAUNCH]] * 3
    assert counted.barrier() == [STOP, LAUNCH]
    counted.comm.synchronize()
    counted.comm.close()


@some_worlds
def test_one_stream_costs_its_launches(ranks, world, shim_source):
    ranks.world(world).run(one_stream, shim_source)


def captured_calls(comm, rng, directory):
    """A captured call is no turn: the next eager call finds the streams as if it had not been."""
    counted = Counted(comm, directory)
    first, second = new_stream(), new_stream()
    assert counted.captured(second) == [ASK, LAUNCH]
    assert counted.barrier(first) == [ASK, LAUNCH]
    assert counted.captured(first) == [LAUNCH]
    assert counted.captured(second) == [ASK, LAUNCH]
    assert counted.barrier(first) == [LAUNCH]
    assert counted.barrier(second) == [ASK, STOP, LAUNCH, RECORD]
    assert counted.captured(second) == [ASK, LAUNCH]  # an event recorded now would be the graph's
    assert counted.captured(first) == [ASK, LAUNCH]
    assert counted.barrier(second) == [ASK, WAIT, LAUNCH, RECORD]
    counted.comm.synchronize(stream=second)
    counted.comm.close()


@some_worlds
def test_captured_calls_leave_no_trace(ranks, world, shim_source):
    ranks.world(world).run(captured_calls, shim_source)


def several_streams(comm, rng, directory):
    """The host waits at the first change only; from then on events do, and their streams may be gone."""
    counted = Counted(comm, directory)
    stream = new_stream()
    assert counted.barrier(stream) == [ASK, LAUNCH]
    counted.synchronize(stream)  # the next stream may have its handle, and pass for it
    call("hipStreamDestroy", stream)
    stream = new_stream()
    assert counted.barrier(stream) in ([LAUNCH], [ASK, STOP, LAUNCH, RECORD])
    call("hipStreamDestroy", stream)
    assert counted.barrier() in ([STOP, LAUNCH], [WAIT, LAUNCH])
    for _ in range(3):
        stream = new_stream()
        assert counted.barrier(stream) == [ASK, RECORD, WAIT, LAUNCH, RECORD]
        # waits although the handle is the same: that might have been destroyed in between, and be another's
        assert counted.barrier(stream) == [ASK, WAIT, LAUNCH, RECORD]
        call("hipStreamDestroy", stream)
        assert counted.barrier() == [WAIT, LAUNCH]
        assert counted.barrier() == [LAUNCH]
    counted.comm.synchronize()
    counted.comm.close()


@some_worlds
def test_the_host_waits_once(ranks, world, shim_source):
    ranks.world(world).run(several_streams, shim_source)


def per_thread_stream(comm, rng, directory):
    """Each thread's is another stream: the handle says nothing."""
    counted = Counted(comm, directory)
    seen = [counted.barrier(PER_THREAD), counted.barrier(PER_THREAD)]

    def elsewhere():
        comm.device.use()
        seen.append(counted.barrier(PER_THREAD))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(60)
    assert seen == [[ASK, LAUNCH, RECORD], [ASK, WAIT, LAUNCH, RECORD], [ASK, WAIT, LAUNCH, RECORD]]
    call("hipDeviceSynchronize")
    counted.comm.close()


@some_worlds
def test_per_thread_streams(ranks, world, shim_source):
    ranks.world(world).run(per_thread_stream, shim_source)
