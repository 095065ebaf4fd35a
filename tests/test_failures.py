"""What a rank sees when another one dies, stops, aborts or never comes: an error that names it, soon.

The times that are measured are printed; the bounds asserted on them leave room for a loaded machine.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import rank_worker
from attempts import attempt, timed_attempt
from harness import ALGORITHMS, SEED, worlds
from regions import DeviceArray, Region, arena

from hipcomm.core import ffi, lib
from hipcomm.hip import call, hip
from hipcomm.plan import TABLE_OF_OPERATIONS

SOON = 20.0  # seconds; a second is the goal, which is printed: a busy machine must not fail a test
TIMEOUT = 0.7  # seconds: enough for the calls before the one that fails, on a loaded machine
WORLD = 3
VICTIM = 1

pytestmark = pytest.mark.skipif(not worlds(WORLD), reason=f"needs {WORLD} devices")


def buffer_of(count):
    region: Region = arena().region(4 * count)
    region.put(np.ones(count, np.float32))
    return region


IN_PARTS = [name for name, row in TABLE_OF_OPERATIONS.items() if "Each" in (row.sent, row.received)]


def operation_of(comm, operation, count):
    region = buffer_of(count * (2 * comm.world_size if operation in IN_PARTS else 1))
    half = region.address + 4 * count * comm.world_size
    where = {"count": count, "dtype": "float32"}
    if operation == "all_reduce":
        comm.all_reduce(region.address, region.address, **where)
    elif operation == "all_gather":
        comm.all_gather(region.address + 4 * count * comm.rank, region.address, **where)
    elif operation == "broadcast":
        comm.broadcast(region.address, VICTIM, **where)
    elif operation == "reduce":
        comm.reduce(region.address, root=VICTIM, **where)
    elif operation == "barrier":
        comm.barrier()
    elif operation == "all_gather_rows":
        own = DeviceArray(region.address, (2, count // 2), np.dtype("float32"))
        whole = DeviceArray(
            region.address + 4 * count, (2, count // 2 * comm.world_size), np.dtype("float32")
        )
        comm.all_gather(own, whole, dim=1)
    elif operation in ("all_to_all_v", "all_gather_v"):
        counts = [count - rank for rank in range(comm.world_size)]
        if operation == "all_gather_v":
            comm.all_gather_v(region.address, half, counts, dtype="float32")
        else:
            sent = [counts[comm.rank]] * comm.world_size
            comm.all_to_all(region.address, half, send_counts=sent, recv_counts=counts, dtype="float32")
    else:
        rooted = {"root": VICTIM} if operation in ("gather", "scatter") else {}
        getattr(comm, operation)(region.address, half, **where, **rooted)
    comm.synchronize()


def good_call(comm, rng):
    operation_of(comm, "all_reduce", 100)


def good_call_in_registered_memory(comm, rng):
    """From now on the memory of all calls is registered."""
    comm.register(arena()._base, 64 << 20)
    operation_of(comm, "all_reduce", 100)


def call_twice_and_close(comm, rng, operation, count):
    """The call that fails, another one that must fail alike, and the end, with the times that they took."""
    rank_worker.say("calling")
    first, waited = timed_attempt(lambda: operation_of(comm, operation, count))
    second = attempt(lambda: operation_of(comm, "all_reduce", 10))
    _, closing = timed_attempt(comm.close)
    return first, second, waited, closing


OPERATIONS = (
    ("all_reduce", 100, "one_shot"),
    ("all_reduce", 100, "two_shot"),
    ("all_reduce", 100, "staged"),
    ("all_reduce", 1_000_000, "staged"),
    ("all_reduce", 1_000_000, "pipelined"),
    ("all_gather", 100, "one_shot"),
    ("all_gather", 1_000_000, "pipelined"),
    ("broadcast", 100, "one_shot"),
    ("broadcast", 1_000_000, "pipelined"),
    ("barrier", 0, "auto"),
)
OTHERS = [
    (operation, count, algorithm)
    for operation in ("reduce_scatter", "reduce", "all_to_all", "gather", "scatter")
    for count, algorithm in ((100, "one_shot"), (300_000, "pipelined"))
]
WITH_COUNTS = [
    ("all_to_all_v", 100, "auto"),
    ("all_to_all_v", 300_000, "auto"),
    ("all_gather_v", 100, "one_shot"),
    ("all_gather_v", 300_000, "pipelined"),
    ("all_gather_rows", 100, "one_shot"),
    ("all_gather_rows", 300_000, "pipelined"),
]
DIRECT = [
    (operation, 300_000, "direct")
    for operation in ("all_reduce", "all_gather", "broadcast", "reduce_scatter", "all_to_all")
]


def others():
    return [rank for rank in range(WORLD) if rank != VICTIM]


def start_calls(world, operation, count):
    """All but the victim make the call, and wait in it."""
    for rank in others():
        world.start(rank, call_twice_and_close, operation, count)
    for rank in others():
        assert world.finish(rank).value == "calling"
    world.wait_until_they_wait(others())


@pytest.mark.parametrize(("operation", "count", "algorithm"), [*OPERATIONS, *OTHERS, *WITH_COUNTS, *DIRECT])
def test_a_rank_is_killed_while_others_wait_in_a_kernel(own_ranks, operation, count, algorithm):
    world = own_ranks.world(WORLD, algorithm=algorithm)
    world.run(good_call_in_registered_memory if algorithm == "direct" else good_call)
    start_calls(world, operation, count)
    world.signal(VICTIM, signal.SIGKILL)
    for rank in others():
        reply = world.finish(rank)
        assert reply.error is None, reply.error
        first, second, waited, closing = reply.value
        for name, message, peer in (first, second):
            assert name == "PeerDied", message
            assert peer == VICTIM
            assert f"rank {VICTIM} died" in message
            assert f"rank {rank}" in message
        assert f"{operation} (call 2, " in first.message
        assert algorithm == "auto" or f"{algorithm})" in first.message
        print(f"rank {rank}: PeerDied within {waited:.3f} s; closing took {closing:.3f} s")
        assert waited < SOON
        assert closing < SOON


def test_a_rank_is_killed_between_calls(own_ranks):
    """Nobody waits: the next call fails, and so does a communicator that is only synchronised."""
    world = own_ranks.world(WORLD)
    world.run(good_call)
    world.signal(VICTIM, signal.SIGKILL)
    time.sleep(0.2)
    start_calls(world, "barrier", 0)
    for rank in others():
        first, *_ = world.finish(rank).value
        assert (first.name, first.peer) == ("PeerDied", VICTIM)


@pytest.mark.parametrize(
    ("operation", "count", "algorithm"), [*OPERATIONS, *OTHERS[:6], *WITH_COUNTS[1:3], DIRECT[0], DIRECT[4]]
)
def test_a_rank_never_calls(own_ranks, operation, count, algorithm):
    world = own_ranks.world(WORLD, algorithm=algorithm, timeout=TIMEOUT)
    world.run(good_call_in_registered_memory if algorithm == "direct" else good_call)
    start_calls(world, operation, count)
    for rank in others():
        reply = world.finish(rank)
        assert reply.error is None, reply.error
        first, second, waited, closing = reply.value
        for name, message, peer in (first, second):
            assert name == "PeerTimeout", message
            assert peer == VICTIM
            assert f"rank {rank}: {operation} (call 2, " in message
            assert f"for rank {VICTIM}" in message
            assert "HIPCOMM_TIMEOUT" in message
        print(f"rank {rank}: PeerTimeout after {waited:.3f} s of {TIMEOUT} s; closing took {closing:.3f} s")
        assert waited >= TIMEOUT
        assert closing < SOON


HALF_A_SLAB = 1 << 20  # bytes, of the smallest staging slab
PUSHING = (
    ("all_reduce", "staged"),
    ("all_reduce", "pipelined"),
    ("all_gather", "pipelined"),
    ("reduce_scatter", "pipelined"),
    ("broadcast", "pipelined"),
    ("all_to_all", "pipelined"),
    ("all_to_all_v", "pipelined"),
)


def past_the_wipe(world):
    """The first two launches wipe old flags, and meet for that before they do anything else."""
    for _ in range(4):
        world.run(good_call)


def replay_two(comm, rng, operation, count, root):
    """Replay two calls; the error, and which halves of the staging slabs are as before."""
    region = buffer_of(4 * count * comm.world_size)
    send, recv, where = region.address, region.address + 8 * count * comm.world_size, {"dtype": "float32"}
    calls = {
        "all_reduce": lambda stream: comm.all_reduce(send, recv, count=count, stream=stream, **where),
        "all_gather": lambda stream: comm.all_gather(send, recv, count=count, stream=stream, **where),
        "reduce_scatter": lambda stream: comm.reduce_scatter(send, recv, count=count, stream=stream, **where),
        "broadcast": lambda stream: comm.broadcast(send, root, count=count, stream=stream, **where),
        "reduce": lambda stream: comm.reduce(send, recv, root=1 - root, count=count, stream=stream, **where),
        "barrier": lambda stream: comm.barrier(stream=stream),
        "all_to_all": lambda stream: comm.all_to_all(send, recv, count=count, stream=stream, **where),
        "all_to_all_v": lambda stream: comm.all_to_all(
            send, recv, send_counts=[count] * 2, recv_counts=[count] * 2, stream=stream, **where
        ),
    }
    stream = call("hipStreamCreateWithFlags", hip().hipStreamNonBlocking)
    call("hipStreamBeginCapture", stream, hip().hipStreamCaptureMode.hipStreamCaptureModeThreadLocal)
    for _ in range(2):
        calls[operation](stream)
    graph = call("hipGraphInstantiateWithFlags", call("hipStreamEndCapture", stream), 0)

    slabs = [int(ffi.cast("uintptr_t", slab)) for slab in comm._session._slabs.staging[0 : comm.world_size]]
    halves = np.full((len(slabs), 2, HALF_A_SLAB), 7, np.uint8)
    for slab, bytes_of_slab in zip(slabs, halves, strict=True):
        kind = hip().hipMemcpyKind.hipMemcpyHostToDevice
        call("hipMemcpy", ctypes.c_void_p(slab), bytes_of_slab, bytes_of_slab.nbytes, kind)
    call("hipGraphLaunch", graph, stream)
    error = attempt(lambda: comm.synchronize(stream=stream))
    for slab, bytes_of_slab in zip(slabs, halves, strict=True):
        kind = hip().hipMemcpyKind.hipMemcpyDeviceToHost
        call("hipMemcpy", bytes_of_slab, ctypes.c_void_p(slab), bytes_of_slab.nbytes, kind)
    return error, [bool((halves[:, half] == 7).all()) for half in range(2)]


@pytest.mark.parametrize(("operation", "algorithm"), PUSHING)
def test_a_rank_that_has_failed_writes_nothing_more(own_ranks, operation, algorithm):
    """The launch behind the one that gave up would write into the half of the slab that a slow peer may
    still be reading, in the call before."""
    settings = {"algorithm": algorithm, "staging_bytes": 1, "timeout": TIMEOUT}
    world = own_ranks.world(2, **settings)
    past_the_wipe(world)
    world.start(0, replay_two, operation, 65536, 0)  # on GPUs too beyond what all_to_all_v sends as lines
    (name, message, peer), untouched = world.finish(0).value
    assert (name, peer) == ("PeerTimeout", 1), message
    assert sorted(untouched) == [False, True]


SENDING_LINES = (
    ("all_reduce", "one_shot", 4096),
    ("all_reduce", "two_shot", 4096),
    ("all_reduce", "two_shot", 1),  # of which rank 1 reduces nothing
    ("all_gather", "one_shot", 4096),
    ("reduce_scatter", "one_shot", 4096),
    ("reduce", "one_shot", 4096),
    ("broadcast", "one_shot", 4096),
    ("all_to_all", "one_shot", 4096),
    ("all_to_all_v", "auto", 4096),
    ("barrier", "auto", 0),
)


@pytest.mark.parametrize(("operation", "algorithm", "count"), SENDING_LINES)
def test_a_rank_that_has_failed_sends_nothing_more(own_ranks, operation, algorithm, count):
    """Rank 1 gives up in the first of two calls; all that it had to send for that one is sent. The second
    would send what the first has not finished, and rank 0, which comes now, would find all of it at once and
    take the result for good."""
    world = own_ranks.world(2, algorithm=algorithm, timeout=TIMEOUT)
    past_the_wipe(world)
    for rank, late in ((1, 0), (0, 1)):
        world.start(rank, replay_two, operation, count, 1)
        (name, message, peer), _ = world.finish(rank).value
        assert (name, peer) == ("PeerTimeout", late), message


def test_a_rank_is_stopped(own_ranks):
    """SIGSTOP: its connection stays open, so this is a time-out and no death."""
    world = own_ranks.world(WORLD, timeout=TIMEOUT)
    world.run(good_call)
    world.signal(VICTIM, signal.SIGSTOP)
    start_calls(world, "all_reduce", 100)
    for rank in others():
        first, second, *_ = world.finish(rank).value
        assert (first.name, first.peer) == ("PeerTimeout", VICTIM), first
        assert second.name == "PeerTimeout"


def raise_inside_with(comm, rng):
    try:
        with comm:
            raise ZeroDivisionError("a bug of the user's")
    except ZeroDivisionError as error:
        return str(error)


def test_a_rank_raises_inside_with(own_ranks):
    """It sees its own error; the others see PeerDied, with its message."""
    world = own_ranks.world(WORLD)
    world.run(good_call)
    start_calls(world, "all_reduce", 100)
    world.start(VICTIM, raise_inside_with)
    assert world.finish(VICTIM).value == "a bug of the user's"
    for rank in others():
        first, second, waited, _ = world.finish(rank).value
        for name, message, peer in (first, second):
            assert name == "PeerDied"
            assert peer == VICTIM
            assert "ZeroDivisionError: a bug of the user's" in message
        print(f"rank {rank}: PeerDied within {waited:.3f} s")
        assert waited < SOON


def abort(comm, rng):
    comm.abort("enough of this")
    return attempt(lambda: operation_of(comm, "all_reduce", 10))


def test_abort(own_ranks):
    world = own_ranks.world(WORLD)
    start_calls(world, "barrier", 0)
    world.start(VICTIM, abort)
    for rank in range(WORLD):
        value = world.finish(rank).value
        name, message, peer = value if rank == VICTIM else value[0]
        assert name == "PeerDied"
        assert peer == VICTIM
        assert "enough of this" in message


def wait_for_itself(comm, rng):
    """What a kernel records whose blocks wait for others of its own (kernels/staged/stagger.h) in vain."""
    status = ffi.cast("uint32_t *", comm._session._status.host)  # hipcomm/abi/status.h
    status[2], status[3] = lib.hipcommOpAllReduce, lib.hipcommAlgorithmPipelined
    status[4], status[5] = comm.rank, 2
    status[1] = 1  # HIPCOMM_FAULT_TIMEOUT
    return attempt(comm.barrier)


def test_a_kernel_that_waits_for_its_own_blocks_names_no_rank(own_ranks):
    world = own_ranks.world(WORLD)
    world.start(VICTIM, wait_for_itself)
    name, message, peer = world.finish(VICTIM).value
    assert name == "PeerTimeout"
    assert peer is None
    assert f"rank {VICTIM}: all_reduce (call 1, pipelined) waited" in message
    assert "for blocks of its own kernel" in message


def leave_alone(comm, rng):
    comm.close()


def call_after_the_others_left(comm, rng):
    """The others wait in close(): they are not dead, but will not come."""
    return attempt(lambda: operation_of(comm, "all_reduce", 100))


def test_a_rank_leaves_early(own_ranks):
    """close() is collective: it waits for the rank that still calls, and fails when that one gives up."""
    world = own_ranks.world(WORLD)
    world.run(good_call)
    for rank in others():
        world.start(rank, leave_alone)
    world.start(VICTIM, call_after_the_others_left)
    name, message, peer = world.finish(VICTIM).value
    assert name == "PeerDied", message
    assert peer in others()


def ordinary_exit_without_close(comm, rng):
    operation_of(comm, "all_reduce", 10)
    os._exit(0)


def test_a_process_that_exits_is_as_dead_as_one_that_is_killed(own_ranks):
    world = own_ranks.world(WORLD)
    world.start(VICTIM, ordinary_exit_without_close)
    for rank in others():
        world.start(rank, two_calls)
    for rank in others():
        name, message, peer = world.finish(rank).value
        assert name == "PeerDied", message
        assert peer == VICTIM


def two_calls(comm, rng):
    def call_twice():
        operation_of(comm, "all_reduce", 10)  # a rank held up at its end hears of the death here
        operation_of(comm, "all_reduce", 10)

    return attempt(call_twice)


def wait_in_kernel(comm, rng):
    return attempt(lambda: operation_of(comm, "all_reduce", 100))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_two_ranks_are_killed(own_ranks, algorithm):
    """The survivor names one of them."""
    world = own_ranks.world(WORLD, algorithm=algorithm)
    world.run(good_call, seed=SEED)
    world.start(0, wait_in_kernel)
    world.wait_until_they_wait([0])
    world.signal(1, signal.SIGKILL)
    world.signal(2, signal.SIGKILL)
    name, message, peer = world.finish(0).value
    assert name == "PeerDied", message
    assert peer in (1, 2)


def leave(comm, rng, how):
    """Make no more calls, in good order, with two messages on their way to rank 0."""
    for number in range(2):
        region = buffer_of(101)
        comm.send(region.address, 0, count=100 + number, dtype="float32")
    comm.synchronize()
    if how == "close":
        comm.close()
    else:
        comm._session.leave_at_exit()


def take_what_is_on_its_way(comm, rng, messages):
    """After the other has left."""
    deadline = time.monotonic() + SOON
    status = ffi.cast("uint32_t *", comm._session._status.host)
    while not status[7] >> VICTIM & 1:  # hipcomm/abi/status.h: left
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for number in range(messages):
        region = buffer_of(101)
        comm.recv(region.address, VICTIM, count=100 + number, dtype="float32")
        comm.synchronize()


def wait_for_more(comm, rng, operation):
    if operation == "recv":
        region = buffer_of(100)
        found, took = timed_attempt(
            lambda: (comm.recv(region.address, VICTIM, count=9, dtype="float32"), comm.synchronize())
        )
    else:
        found, took = timed_attempt(lambda: operation_of(comm, operation, 100))
    comm.close()
    return found, took


@pytest.mark.parametrize("how", ["close", "exit"])
@pytest.mark.parametrize("operation", ["all_reduce", "barrier", "recv"])
def test_a_rank_that_has_left_is_not_waited_for(own_ranks, operation, how):
    """The time-out is a minute. What it had sent before arrives."""
    world = own_ranks.world(WORLD)
    world.run(good_call)
    world.start(VICTIM, leave, how)
    for rank in others():
        world.start(rank, take_what_is_on_its_way, 2 if rank == 0 else 0)
    for rank in others():
        reply = world.finish(rank)
        assert reply.error is None, reply.error
    for rank in others():  # now the first to miss the one that has left fails the job
        world.start(rank, wait_for_more, operation)
    for rank in others():
        reply = world.finish(rank)
        assert reply.error is None, reply.error
        (name, message, _), took = reply.value
        assert name == "PeerDied", message
        assert f"rank {VICTIM}" in message
        assert took < SOON
    reply = world.finish(VICTIM)
    assert reply.error is None, reply.error
    world.abandon()


def leave_unmissed(comm, rng):
    """Rank 2 leaves the job; the others go on without it."""
    part = comm.split(comm.rank // 2)
    if comm.rank == 2:
        comm._session.leave_at_exit()
        return None
    deadline = time.monotonic() + SOON
    while 2 not in comm._session.ranks._job.client.left:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for _ in range(3):
        operation_of(part, "all_reduce", 100)
    return part.world_size


def test_a_rank_that_has_left_is_not_missed_where_it_takes_no_part(own_ranks):
    world = own_ranks.world(WORLD)
    assert world.run(leave_unmissed) == [2, 2, None]
    world.abandon()


BUSY = 12  # processes that compute


@pytest.fixture
def busy_machine():
    """Starts processes that compute, in the scheduling group of the tests."""
    started = []

    def start():
        command = [sys.executable, "-S", "-c", "while True: pass"]
        started.extend(subprocess.Popen(command) for _ in range(BUSY))

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize(("algorithm", "count"), [("one_shot", 100), ("two_shot", 4096)])
@pytest.mark.parametrize("how", ["kill", "time-out"])
def test_on_a_busy_machine_waits_look_up_in_time(own_ranks, busy_machine, how, algorithm, count):
    """They looked up at every 256th turn, and each turn gave the core away: 13 to 24 s after a kill, 17 s for
    a time-out of one. And each line of a tile waited for itself.
    """
    world = own_ranks.world(2, algorithm=algorithm, timeout=1.0 if how == "time-out" else 60.0)
    world.run(good_call)
    busy_machine()
    time.sleep(0.3)  # they have computed for longer than a turn takes
    world.start(0, call_twice_and_close, "all_reduce", count)
    assert world.finish(0).value == "calling"
    if how == "kill":
        time.sleep(0.5)
        world.signal(1, signal.SIGKILL)
    first, _, waited, _ = world.finish(0).value
    print(f"{how}: {first.name} after {waited:.3f} s with {BUSY} busy processes")
    assert first.name == ("PeerDied" if how == "kill" else "PeerTimeout")
    assert waited < 6.0
