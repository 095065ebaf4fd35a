"""A launch that HIP refuses on one rank: its epochs would be behind the others' for good."""

from __future__ import annotations

import time

import pytest
from cases import Case, run
from counting import Counted
from harness import worlds
from regions import Arena

import hipcomm
from hipcomm.platform import call, hip

pytestmark = pytest.mark.skipif(not worlds(2), reason="needs 2 devices")
SOON = 5.0  # seconds; the time-out is 60


def sums(part, rng, calls):
    return run(part, rng, [Case("all_reduce", 100, seed=(81, number)) for number in range(calls)])


def error_of(call_it):
    started = time.monotonic()
    try:
        call_it()
    except hipcomm.Error as error:
        assert time.monotonic() - started < SOON
        return type(error).__name__, str(error)
    return "none", ""


def one_launch_fails(comm, rng, directory, operation):
    """What the call says of which rank 1's launch fails, and the one after that."""
    counted = Counted(comm, directory)
    part = counted.comm
    sums(part, rng, 3)
    memory = Arena(1 << 16)
    send, recv, where = memory.region(4096), memory.region(8192), {"count": 100, "dtype": "float32"}

    def attempt():
        if operation == "all_reduce":
            part.all_reduce(send.address, recv.address, **where)
        elif operation == "all_gather":
            part.all_gather(send.address, recv.address, **where)
        elif operation == "all_to_all":
            part.all_to_all(send.address, recv.address, count=50, dtype="float32")
        elif comm.rank == 1:
            part.send(send.address, 0, **where)
        else:
            part.recv(recv.address, 1, **where)
        part.synchronize()

    if comm.rank == 1:
        time.sleep(0.5)  # the failure ends the job at once: rank 0 shall be in the call that it belongs to
        counted.fail_next_launch()
    return error_of(attempt), error_of(part.barrier)


@pytest.mark.parametrize("operation", ("all_reduce", "all_gather", "all_to_all", "message"))
def test_the_communicator_fails_on_all_ranks(own_ranks, shim_source, operation):
    (first, second), (own_first, own_second) = own_ranks.world(2).run(
        one_launch_fails, shim_source, operation
    )
    assert own_first[0] == own_second[0] == "PlatformError"
    assert "rank 1: hipModuleLaunchKernel failed" in own_first[1]
    for name, message in (first, second):
        assert name == "PeerDied"
        assert "rank 1: hipModuleLaunchKernel failed" in message


def one_captured_launch_fails(comm, rng, directory, used_before):
    """A graph that was not to be; calls before and after it are as ever."""
    counted = Counted(comm, directory)
    part = counted.comm
    sums(part, rng, 3)
    stream = call("hipStreamCreateWithFlags", hip().hipStreamNonBlocking)
    if used_before:
        part.barrier(stream=stream)
        part.synchronize(stream=stream)
    counted.fail_next_launch()
    errors = []
    counted.captured(stream, lambda: errors.append(error_of(lambda: part.barrier(stream=stream))))
    made = sums(part, rng, 3)
    part.close()
    return errors, made


@pytest.mark.parametrize("used_before", (False, True))
@pytest.mark.parametrize("world", worlds(2))
def test_what_was_to_be_captured_concerns_nobody(own_ranks, shim_source, world, used_before):
    for errors, made in own_ranks.world(world).run(one_captured_launch_fails, shim_source, used_before):
        assert [name for name, _ in errors] == ["PlatformError"]
        assert made == 3
