"""Streams: calls on one communicator from several of them, and several communicators in one process."""

from __future__ import annotations

import gc
import time
import weakref

import cases
import numpy as np
import pytest
from cases import OPERATIONS, Made, random_case
from counting import Counted
from harness import worlds
from regions import Arena

import hipcomm
from hipcomm.hip import call, hip

some_worlds = pytest.mark.parametrize("world", worlds(1, 2, 3))


def new_stream():
    return call("hipStreamCreateWithFlags", hip().hipStreamNonBlocking)


def one_buffer_from_many_streams(comm, rng, calls):
    """Each call works on the last one's result; only the communicator orders them."""
    shared = np.random.default_rng(31)
    streams = [None, *(new_stream() for _ in range(3))]
    x = comm.empty(3000, "float64")
    x.from_host(np.full(3000, comm.rank + 1.0))
    call("hipDeviceSynchronize")
    expected = [rank + 1.0 for rank in range(comm.world_size)]
    for _ in range(calls):
        cases.skew(rng)
        which = int(shared.integers(len(streams)))
        if shared.random() < 0.2 and which:
            call("hipStreamDestroy", streams[which])  # the last call may have been on it
            streams[which] = new_stream()
        if shared.random() < 0.3:
            comm.barrier(stream=streams[which])
        elif shared.random() < 0.5:
            comm.all_reduce(x, stream=streams[which])  # every one changes the numbers
            expected = [sum(expected)] * comm.world_size
        else:
            comm.broadcast(x, root=1 % comm.world_size, stream=streams[which])
            expected = [expected[1 % comm.world_size]] * comm.world_size
    call("hipDeviceSynchronize")
    comm.synchronize()
    assert (x.to_host() == expected[comm.rank]).all()
    x.free()


@some_worlds
def test_one_buffer_from_many_streams(ranks, world):
    ranks.world(world).run(one_buffer_from_many_streams, 200)


def a_stream_that_is_gone(comm, rng):
    """The stream of the last call is destroyed; the next call goes to the default stream, or to another."""
    x = comm.empty(10)
    for after in (None, new_stream(), None):
        stream = new_stream()
        comm.barrier(stream=stream)
        call("hipStreamDestroy", stream)
        x.from_host(np.full(10, 1.0 + comm.rank, np.float32))
        call("hipDeviceSynchronize")
        comm.all_reduce(x, stream=after)
        comm.synchronize(stream=after)
        assert (x.to_host() == sum(range(1, comm.world_size + 1))).all()


@some_worlds
def test_a_stream_that_is_gone(ranks, world):
    ranks.world(world).run(a_stream_that_is_gone)


# ---- split -----------------------------------------------------------------------------------------------


def split_by(comm, rng, colors, keys):
    """Split, compare who is in the part, and use part and whole in turns."""
    part = comm.split(colors[comm.rank], keys[comm.rank])
    color = colors[comm.rank]
    if color is None:
        assert part is None
        members = [comm.rank]
    else:
        members = sorted(
            (rank for rank in range(comm.world_size) if colors[rank] == color),
            key=lambda rank: (keys[rank], rank),
        )
        assert (part.rank, part.world_size) == (members.index(comm.rank), len(members))
        assert part.device == comm.device and part.platform == comm.platform
    x, y = comm.empty(5000, "int64"), comm.empty(700, "float32")
    for turn in range(20):
        cases.skew(rng)
        x.from_host(np.full(5000, 10**comm.rank + turn))
        y.from_host(np.full(700, comm.rank, np.float32))
        call("hipDeviceSynchronize")
        if part is not None:
            part.all_reduce(x)  # registered with the whole only
        comm.all_reduce(y)
        call("hipDeviceSynchronize")
        assert (x.to_host() == sum(10**rank + turn for rank in members)).all()
        assert (y.to_host() == sum(range(comm.world_size))).all()
    if part is not None:
        mine = part.empty(3000, "int32")
        mine.from_host(np.full(3000, comm.rank, np.int32))
        part.all_reduce(mine)
        part.synchronize()
        assert (mine.to_host() == sum(members)).all()
        order = np.zeros(len(members), np.int64)
        gathered = part.empty(len(members), "int64")
        own = part.empty(1, "int64")
        own.from_host(np.array([comm.rank]))
        gathered.from_host(order)
        part.all_gather(own, gathered)
        part.synchronize()
        assert gathered.to_host().tolist() == members
        part.close()
    comm.barrier()
    comm.synchronize()


@pytest.mark.parametrize(
    ("colors", "keys"),
    [
        ((0,), (0,)),
        ((7, 7), (1, 0)),
        ((-(2**63), 2**63 - 1), (0, 0)),
        ((0, 0, 1, 1), (0, 0, 0, 0)),
        ((0, 1, 0, 1), (0, 0, -1, -5)),
        ((3, None, 3, None), (0, 0, 0, 0)),
        ((None, None), (0, 0)),
        ((0, 0, 0, 1, 1, None), (9, 5, 7, 2**62, -(2**62), 0)),
    ],
)
def test_split(ranks, colors, keys):
    if len(colors) not in worlds(len(colors)):
        pytest.skip("fewer devices")
    ranks.world(len(colors)).run(split_by, colors, keys)


def nothing_of_a_split_is_left(comm, rng):
    """The job's client lives on, and must not keep what it knew of a communicator that is closed."""
    client = comm._session.ranks._job.client
    comm.barrier()
    counts = len(client._sequences)
    part = comm.split(0)
    part.empty(1000)
    was = weakref.ref(part._session)
    part.close()
    del part
    gc.collect()
    assert was() is None
    assert len(client._sequences) <= counts + 1  # that of split itself


def test_nothing_of_a_split_is_left(ranks):
    ranks.world(max(worlds(1, 2))).run(nothing_of_a_split_is_left)


def split_of_split(comm, rng):
    """Parts of parts, parts with the same members at the same time, closed in another order."""
    half = comm.split(comm.rank // 2)
    again = comm.split(comm.rank // 2)
    single = half.split(half.rank)
    whole = comm.split(0, -comm.rank)
    assert (half.world_size, again.world_size, single.world_size) == (2, 2, 1)
    assert whole.rank == comm.world_size - 1 - comm.rank
    for communicator, expected in ((half, 2), (again, 2), (single, 1), (whole, 4), (comm, 4)):
        x = communicator.empty(100)
        x.from_host(np.ones(100, np.float32))
        communicator.all_reduce(x)
        communicator.synchronize()
        assert (x.to_host() == expected).all()
    for communicator in (again, whole, half, single):
        communicator.close()
    with pytest.raises(hipcomm.InvalidArgument, match="closed"):
        half.split(0)


@pytest.mark.parametrize("world", worlds(4))
def test_split_of_split(ranks, world):
    ranks.world(world).run(split_of_split)


def two_at_once(comm, rng, calls):
    """Two communicators, on streams of their own, without waiting for one before the other is called."""
    other = comm.split(0, -comm.rank)
    streams = new_stream(), new_stream()
    x, y = comm.empty(20000, "int64"), other.empty(20000, "int64")
    x.from_host(np.ones(20000, np.int64))
    y.from_host(np.ones(20000, np.int64))
    call("hipDeviceSynchronize")
    for _ in range(calls):
        cases.skew(rng)
        comm.all_reduce(x, stream=streams[0])
        other.all_reduce(y, op="max", stream=streams[1])
    comm.synchronize(stream=streams[0])
    other.synchronize(stream=streams[1])
    with np.errstate(over="ignore"):
        assert (x.to_host() == np.int64(comm.world_size) ** np.int64(calls)).all()
    assert (y.to_host() == 1).all()
    other.close()


@pytest.mark.parametrize("world", worlds(2, 4))
def test_two_at_once(ranks, world):
    ranks.world(world).run(two_at_once, 25)


def tensor_and_expert_parallel(comm, rng, layers):
    """Two groups that cross: rows of a grid of ranks reduce, columns exchange, each on a stream of its own,
    and every layer's exchange takes what its reduction gave."""
    columns = 2
    rows = comm.world_size // columns
    tensor, expert = comm.split(comm.rank // columns), comm.split(comm.rank % columns)
    assert (tensor.world_size, expert.world_size) == (columns, rows)
    streams = new_stream(), new_stream()
    reduced = call("hipEventCreateWithFlags", hip().hipEventDisableTiming)
    count = 900 * rows
    x, sent, got = tensor.empty(count, "int64"), expert.empty(count, "int64"), expert.empty(count, "int64")
    background = expert.empty(5000, "int64")  # nothing orders it with the reductions
    values = np.arange(count, dtype=np.int64)
    background.from_host(np.ones(5000, np.int64))
    for layer in range(layers):
        cases.skew(rng)
        x.from_host(values * (comm.rank + 1) + layer)
        call("hipDeviceSynchronize")
        tensor.all_reduce(x, stream=streams[0])
        expert.all_reduce(background, stream=streams[1])
        call("hipEventRecord", reduced, streams[0])
        call("hipStreamWaitEvent", streams[1], reduced, 0)
        tensor.all_reduce(x, sent, op="avg", stream=streams[0])  # only reads x
        expert.all_to_all(x, got, stream=streams[1])
        tensor.synchronize(stream=streams[0])
        expert.synchronize(stream=streams[1])
        sums = [
            values * sum(columns * row + column + 1 for column in range(columns)) + columns * layer
            for row in range(rows)
        ]
        assert (sent.to_host() == sums[comm.rank // columns]).all()
        expected = [np.split(total, rows)[expert.rank] for total in sums]
        assert (got.to_host() == np.concatenate(expected)).all()
    assert (background.to_host() == rows**layers).all()
    call("hipEventDestroy", reduced)
    for stream in streams:
        call("hipStreamDestroy", stream)
    expert.close()
    tensor.close()


@pytest.mark.parametrize("world", worlds(4, 6))
def test_tensor_and_expert_parallel_groups(ranks, world):
    ranks.world(world).run(tensor_and_expert_parallel, 20)


def parent_closes_first(comm, rng):
    part = comm.split(comm.rank % 2)
    comm.close()
    x = part.empty(100)
    x.from_host(np.ones(100, np.float32))
    part.all_reduce(x)
    part.synchronize()
    assert (x.to_host() == part.world_size).all()
    part.close()


@pytest.mark.parametrize("world", worlds(2, 3))
def test_parent_closes_first(own_ranks, world):
    own_ranks.world(world).run(parent_closes_first)


def refusals(comm, rng):
    for color, key in ((1.5, 0), ("a", 0), (True, 0), (1 << 63, 0), (0, None), (0, -(1 << 63) - 1)):
        with pytest.raises(hipcomm.InvalidArgument, match="64 bits"):
            comm.split(color, key)


def test_refusals_of_split(ranks):
    ranks.world(1).run(refusals)


def part_of_a_failed_job(comm, rng):
    """A rank of the other half is lost: this half's communicator fails too, and says who it was."""
    part = comm.split(comm.rank // 2)
    if comm.rank == 3:
        time.sleep(0.5)  # until the others have their part and wait in it
        comm.abort("enough")
        return "aborted"
    try:
        while True:
            part.barrier()
            part.synchronize()
    except hipcomm.PeerDied as error:
        return str(error)


@pytest.mark.parametrize("world", worlds(4))
def test_a_part_fails_with_the_job(own_ranks, world):
    messages = own_ranks.world(world).run(part_of_a_failed_job)
    assert messages[3] == "aborted"
    assert all("rank 3" in message and "enough" in message for message in messages[:3])
    own_ranks.end()


def calls_while_another_device_is_current(comm, rng, directory):
    """Every operation and a local norm: launches are on the communicator's device, and the other stays."""
    counted = Counted(comm, directory)
    part, own = counted.comm, comm.device.ordinal
    other = (own + 1) % int(call("hipGetDeviceCount"))
    assert other != own
    call("hipSetDevice", other)
    launched = {}
    try:
        memory = Arena(4 << 20)
        for number, operation in enumerate(OPERATIONS):
            shared = np.random.default_rng(number)
            made = Made(
                part, memory, random_case(shared, part.world_size, (73, number), operation, count=500)
            )
            made.fill(1)
            made.make(None)
            part.synchronize()
            made.check(part)
            launched[operation] = counted.device_of_last_launch()
            assert int(call("hipGetDevice")) == other, operation
        rows = np.ones((2, 64), np.float32)
        part.add_rms_norm(rows, None, None, 1e-6, out=np.empty_like(rows))
        launched["add_rms_norm"] = counted.device_of_last_launch()
        array = part.empty(100)
        array.free()
        part.close()
        assert int(call("hipGetDevice")) == other
    finally:
        call("hipSetDevice", own)
    return own, launched


@pytest.mark.host_arrays
@pytest.mark.parametrize("world", worlds(2))
def test_another_device_may_be_current(ranks, world, shim_source):
    for own, launched in ranks.world(world).run(calls_while_another_device_is_current, shim_source):
        assert set(launched.values()) == {own}, launched
