"""A HIP function that fails within a call on one rank: its epochs would be behind the others' for good."""

from __future__ import annotations

import time

import pytest
from attempts import timed_attempt
from cases import Case, run
from counting import ASK, LAUNCH, RECORD, WAIT, Counted
from harness import worlds
from regions import Arena

from hipcomm.hip import call, hip

pytestmark = pytest.mark.skipif(not worlds(2), reason="needs 2 devices")
SOON = 5.0  # seconds; the time-out is 60


def sums(part, rng, calls):
    return run(part, rng, [Case("all_reduce", 100, seed=(81, number)) for number in range(calls)])


def error_of(call_it):
    outcome, seconds = timed_attempt(call_it)
    assert outcome.name == "none" or seconds < SOON
    return outcome


def one_call_fails(comm, rng, directory, operation, function):
    """What the call says within which rank 1's HIP function fails, and the one after that."""
    counted = Counted(comm, directory)
    part = counted.comm
    sums(part, rng, 3)
    stream = call("hipStreamCreateWithFlags", hip().hipStreamNonBlocking)
    if function in (WAIT, RECORD):  # once two streams have been used, every call is marked and waited for
        part.barrier(stream=stream)
        sums(part, rng, 1)
    memory = Arena(1 << 16)
    send, recv, where = memory.region(4096), memory.region(8192), {"count": 100, "dtype": "float32"}

    def call_it():
        if operation == "all_reduce":
            part.all_reduce(send.address, recv.address, **where, stream=stream)
        elif operation == "all_gather":
            part.all_gather(send.address, recv.address, **where, stream=stream)
        elif operation == "all_to_all":
            part.all_to_all(send.address, recv.address, count=50, dtype="float32", stream=stream)
        elif comm.rank == 1:
            part.send(send.address, 0, **where, stream=stream)
        else:
            part.recv(recv.address, 1, **where, stream=stream)
        part.synchronize(stream=stream)

    if comm.rank == 1:
        time.sleep(0.5)  # the failure ends the job at once: rank 0 shall be in the call that it belongs to
        counted.fail_next(function)
    return error_of(call_it), error_of(part.barrier)


@pytest.mark.parametrize(
    ("operation", "function"),
    [(operation, LAUNCH) for operation in ("all_reduce", "all_gather", "all_to_all", "message")]
    + [(operation, ASK) for operation in ("all_reduce", "all_to_all", "message")]
    + [("all_reduce", WAIT), ("all_reduce", RECORD)],
)
def test_the_communicator_fails_on_all_ranks(own_ranks, shim_source, operation, function):
    (first, second), (own_first, own_second) = own_ranks.world(2).run(
        one_call_fails, shim_source, operation, function
    )
    assert own_first.name == own_second.name == "PlatformError"
    assert f"rank 1: {function} failed" in own_first.message
    assert second.name == "PeerDied"
    assert f"rank 1: {function} failed" in second.message
    # what fails behind the launch leaves the peer's call complete
    assert first == second or (function == RECORD and first.name == "none")


def one_captured_launch_fails(comm, rng, directory, used_before):
    """A graph that was not to be; calls before and after it are as ever."""
    counted = Counted(comm, directory)
    part = counted.comm
    sums(part, rng, 3)
    stream = call("hipStreamCreateWithFlags", hip().hipStreamNonBlocking)
    if used_before:
        part.barrier(stream=stream)
        part.synchronize(stream=stream)
    counted.fail_next(LAUNCH)
    errors = []
    counted.captured(stream, lambda: errors.append(error_of(lambda: part.barrier(stream=stream))))
    made = sums(part, rng, 3)
    part.close()
    return errors, made


@pytest.mark.parametrize("used_before", (False, True))
@pytest.mark.parametrize("world", worlds(2))
def test_what_was_to_be_captured_concerns_nobody(own_ranks, shim_source, world, used_before):
    for errors, made in own_ranks.world(world).run(one_captured_launch_fails, shim_source, used_before):
        assert [error.name for error in errors] == ["PlatformError"]
        assert made == 3
