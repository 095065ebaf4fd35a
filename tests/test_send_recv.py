"""send and recv: every message arrives, bit by bit, whatever its size, its neighbours and their order."""

from __future__ import annotations

import ctypes
import itertools
import logging
import signal
import time

import attempts
import cases
import messages
import numpy as np
import oracle
import pytest
from harness import worlds
from messages import Message, random_message
from plans import PACK, make_plan
from regions import POISON, Arena
from slabs import SLABS
from test_threads import run as in_one_process

import hipcomm
from hipcomm.core import ffi
from hipcomm.hip import call, hip

LAST_NUMBER = 2**32 - 1
SCRUB_PERIOD = SLABS["MESSAGE_SCRUB_PERIOD"]  # the last SLOTS messages before its multiples wipe old flags
SLOTS = SLABS["CHANNEL_SLOTS"]  # short messages that may be sent before the first is received
RING = SLABS["CHANNEL_RING"]
with_every_algorithm = pytest.mark.parametrize("algorithm", ("auto", "one_shot", "pipelined"))


def short(comm):
    """Bytes of the longest short message."""
    size = 1
    while comm.plan("send", 2 * size).algorithm == "one_shot":
        size *= 2
    return size


# ---- what arrives ------------------------------------------------------------------------------------


def every_dtype(comm, rng, seed):
    shared = np.random.default_rng(seed)
    programme = [
        random_message(shared, comm.world_size, (seed, number), dtype=dtype, count=count)
        for number, (dtype, count) in enumerate(itertools.product(oracle.ALL_DTYPES, (0, 1, 77, 4100)))
    ]
    return messages.run(comm, rng, programme)


@pytest.mark.parametrize("world", worlds(2, 3))
@with_every_algorithm
def test_every_dtype(ranks, algorithm, world):
    made = ranks.world(world, algorithm=algorithm).run(every_dtype, 71)
    assert sum(made) == 2 * 4 * len(oracle.ALL_DTYPES)


def sizes_around(comm):
    """Bytes at which a message begins something new: a pack, the long way, a block, a turn of the ring."""
    arch, blocks = comm.device.arch, comm.device.multiprocessors
    huge = make_plan("send", 1 << 30, comm.world_size, arch, algorithm="pipelined", max_blocks=blocks)
    step = huge.chunk_packs * huge.blocks * PACK
    sizes = {0, PACK, short(comm), huge.chunk_packs * PACK}
    sizes |= {number * step for number in (1, RING, RING + 1, 3 * RING + 1)}
    return sorted({size + more for size in sizes for more in (-1, 0, 1) if size + more >= 0})


def every_size(comm, rng, seed):
    shared = np.random.default_rng(seed)
    programme = [
        random_message(shared, comm.world_size, (seed, size), dtype="uint8", count=size)
        for size in sizes_around(comm)
    ]
    return messages.run(comm, rng, programme, burst=2)


@pytest.mark.parametrize("world", worlds(2, 3, 5))
@with_every_algorithm
def test_every_size(ranks, algorithm, world):
    ranks.world(world, algorithm=algorithm).run(every_size, 72)


def every_alignment(comm, rng, seed):
    programme = [
        Message(number % 2, 1 - number % 2, 70 + number % 9, offsets=offsets, seed=(seed, number))
        for number, offsets in enumerate(itertools.product(range(16), range(16)))
    ]
    return messages.run(comm, rng, programme, burst=32)


@pytest.mark.parametrize("world", worlds(2))
@with_every_algorithm
def test_every_alignment(ranks, algorithm, world):
    ranks.world(world, algorithm=algorithm).run(every_alignment, 73)


def every_pair(comm, rng, counts, seed):
    """Every rank to every other, messages of these lengths."""
    programme = [
        Message(source, dest, count, seed=(seed, source, dest, turn))
        for turn, count in enumerate(counts)
        for source, dest in itertools.permutations(range(comm.world_size), 2)
    ]
    return messages.run(comm, rng, programme, burst=1)


@pytest.mark.parametrize("world", worlds(2, 3, 4, 8, 16))
def test_every_pair(ranks, world):
    counts = [11, 70_000, 0]
    if world <= 8:
        counts += [3000, *range(5, 5 + 2 * SLOTS)]  # more messages than slots, of both kinds
    made = ranks.world(world).run(every_pair, counts, 74)
    assert made == [2 * (world - 1) * len(counts)] * world


def mixed_calls(comm, rng, seed, calls, most=14):
    """Messages and collectives in random order; what one leaves behind the next might trip over."""
    shared = np.random.default_rng(seed)

    def programme():
        for number in range(calls):
            count = 0 if shared.random() < 0.05 else int(2 ** shared.uniform(0, most))
            if shared.random() < 0.6:
                yield random_message(shared, comm.world_size, (seed, number), count=count)
            else:
                operation = oracle.pick(shared, cases.COLLECTIVES)
                yield cases.random_case(
                    shared, comm.world_size, (seed, number), operation, count=count // comm.world_size
                )

    return messages.run(comm, rng, programme(), burst=20)


@pytest.mark.parametrize("world", worlds(2, 3, 4, 8))
@with_every_algorithm
def test_mixed_with_collectives(ranks, algorithm, world):
    ranks.world(world, algorithm=algorithm).run(mixed_calls, 75, 3000 if world < 8 else 1500)


@pytest.mark.parametrize("world", worlds(3))
def test_calls_are_not_compared(ranks, world):
    """HIPCOMM_CHECK=1 compares the collectives, and leaves alone what most ranks have no part in."""
    ranks.world(world, check=True).run(mixed_calls, 76, 300)


def arrays(comm, rng):
    """Arrays, as users have them, and whatever shape they have."""
    there, back = (comm.rank + 1) % comm.world_size, (comm.rank - 1) % comm.world_size
    mine = np.arange(12, dtype=np.float32).reshape(3, 4) + comm.rank
    mine.flags.writeable = False
    theirs = np.zeros((2, 6), np.float32)
    comm.send(mine, there)
    comm.recv(theirs, back)
    assert theirs.reshape(-1).tolist() == [float(number + back) for number in range(12)]


@pytest.mark.host_arrays
@pytest.mark.parametrize("world", worlds(3))
def test_arrays(ranks, world):
    ranks.world(world).run(arrays)


# ---- who waits for whom ------------------------------------------------------------------------------


def all_send_before_they_receive(comm, rng, seed):
    """As many short messages as need no receiver, each as long as a short one may be."""
    memory, size = cases.arena(), short(comm)
    others = [rank for rank in range(comm.world_size) if rank != comm.rank]
    for turn in range(5):
        batch = [(peer, number) for number in range(SLOTS) for peer in others]
        made = [
            messages.make(comm, memory, Message(comm.rank, peer, size, seed=(seed, turn, peer, number)))
            for peer, number in batch
        ]
        cases.skew(rng)
        made += [
            messages.make(comm, memory, Message(peer, comm.rank, size, seed=(seed, turn, comm.rank, number)))
            for peer, number in batch
        ]
        comm.synchronize()
        for each in made:
            each.check(comm)
        memory.reset()


@pytest.mark.parametrize("world", worlds(2, 4))
def test_short_messages_need_no_receiver(ranks, world):
    ranks.world(world).run(all_send_before_they_receive, 77)


def send_until_it_fails(comm, rng, nbytes):
    buffer = cases.arena().region(nbytes)
    sent = 0
    try:
        while sent < 100:
            comm.send(buffer.address, 1, count=nbytes, dtype="uint8")
            comm.synchronize()
            sent += 1
    except hipcomm.PeerTimeout as error:
        return sent, error.peer, str(error)
    return sent, None, ""


def do_nothing(comm, rng):
    return None


@pytest.mark.parametrize(("nbytes", "expected"), ((16, SLOTS), (1 << 23, 0)))
def test_a_sender_without_a_receiver(own_ranks, nbytes, expected):
    """Short messages are sent until the slots are full, a long one waits: for the time-out and no longer."""
    if not worlds(2):
        pytest.skip("needs 2 devices")
    world = own_ranks.world(2, timeout=1)
    world.start(0, send_until_it_fails, nbytes)
    sent, peer, message = world.finish(0).value
    algorithm = "one_shot" if expected else "pipelined"
    assert (sent, peer) == (expected, 1)
    assert message.startswith(f"rank 0: send (message {expected + 1}, {algorithm}) waited "), message
    assert "for rank 1" in message


# ---- failure -----------------------------------------------------------------------------------------


def attempt(comm, rng, operation, nbytes, calls=1):
    """What comes of a message, or of several."""
    buffer = cases.arena().region(nbytes)
    method = comm.send if operation == "send" else comm.recv

    def call_it():
        for _ in range(calls):
            method(buffer.address, 1 - comm.rank, count=nbytes, dtype="uint8")
            comm.synchronize()

    return attempts.attempt(call_it)


both_kinds = pytest.mark.parametrize(
    ("operation", "nbytes"), (("recv", 16), ("recv", 1 << 23), ("send", 1 << 23))
)
needs_two = pytest.mark.skipif(not worlds(2), reason="needs 2 devices")


@needs_two
@both_kinds
def test_the_other_is_killed(own_ranks, operation, nbytes):
    world = own_ranks.world(2)
    world.run(mixed_calls, 78, 20)
    world.start(0, attempt, operation, nbytes)
    world.wait_until_they_wait([0])
    world.signal(1, signal.SIGKILL)
    name, message, peer = world.finish(0).value
    assert (name, peer) == ("PeerDied", 1), message
    assert f"rank 0: {operation} (message " in message and "rank 1 died" in message


@needs_two
@both_kinds
def test_the_other_never_calls(own_ranks, operation, nbytes):
    world = own_ranks.world(2, timeout=1)
    world.start(0, attempt, operation, nbytes)
    name, message, peer = world.finish(0).value
    assert (name, peer) == ("PeerTimeout", 1), message
    algorithm = "one_shot" if nbytes == 16 else "pipelined"
    assert message.startswith(f"rank 0: {operation} (message 1, {algorithm}) waited "), message


def receive_another_length(comm, rng, nbytes):
    """The first two messages are as they should be."""
    attempt(comm, rng, "recv", 16, 2)
    return attempt(comm, rng, "recv", nbytes)


def send_and_go_on(comm, rng, nbytes):
    """As many as can be sent without a receiver, and one more, which must notice."""
    attempt(comm, rng, "send", 16, 2)
    return attempt(comm, rng, "send", nbytes, SLOTS + 1)


def another_dtype(comm, rng):
    region = cases.arena().region(400)
    where = {"count": 100, "dtype": ("float32", "int32")[comm.rank]}
    with pytest.raises(hipcomm.CallMismatch) as caught:
        for _ in range(2):  # a sender learns of it in its next message
            (comm.send if comm.rank == 0 else comm.recv)(region.address, 1 - comm.rank, **where)
            comm.synchronize()
            time.sleep(0.5)
    return str(caught.value)


@needs_two
def test_dtypes_differ(own_ranks):
    for message in own_ranks.world(2).run(another_dtype):
        assert message.endswith("rank 0 sends 400 bytes of float32, rank 1 expects 400 of int32"), message


@needs_two
@pytest.mark.parametrize("sent", (0, 16, 17, 1 << 22))
@pytest.mark.parametrize("expected", (0, 15, 1 << 21))
def test_lengths_differ(own_ranks, sent, expected):
    if sent == expected:
        expected += 1
    world = own_ranks.world(2)
    world.start(0, send_and_go_on, sent)
    world.start(1, receive_another_length, expected)
    at_receiver, at_sender = world.finish(1).value, world.finish(0).value
    for rank, operation, (name, message, _) in ((1, "recv", at_receiver), (0, "send", at_sender)):
        assert name == "CallMismatch", message
        assert message.startswith(f"rank {rank}: {operation} (message 3, "), message
        assert message.endswith(f"rank 0 sends {sent} bytes, rank 1 expects {expected}"), message


def refusals(comm, rng):
    world, rank = comm.world_size, comm.rank
    address = cases.arena().region(64).address
    where = {"count": 4, "dtype": "float32"}
    problems = []
    for method in (comm.send, comm.recv):
        for peer in (rank, world, -1, 1 << 40, True, "1", None):
            with pytest.raises(hipcomm.InvalidArgument) as caught:
                method(address, peer, **where)
            problems.append(str(caught.value))
        with pytest.raises(hipcomm.InvalidArgument, match="NULL"):
            method(0, (rank + 1) % world if world > 1 else 1, **where)
        with pytest.raises(hipcomm.InvalidArgument, match="int16"):
            method(address, 0, count=4, dtype="int16")
    comm.barrier()  # unharmed
    comm.synchronize()
    return problems


@pytest.mark.parametrize("world", worlds(3))
def test_wrong_peers(ranks, world):
    for rank, problems in enumerate(ranks.world(world).run(refusals)):
        assert f"rank {rank}: send: peer {rank} is this rank itself" in problems[0]
        assert f"rank {rank}: send: peer {world} is not in a world of {world}" in problems[1]
        assert f"rank {rank}: recv: source '1' is not a rank" in problems[12]


def alone(comm, rng):
    with pytest.raises(hipcomm.InvalidArgument) as caught:
        comm.send(cases.arena().region(4).address, 0, count=1, dtype="float32")
    return str(caught.value)


@pytest.mark.parametrize("world", worlds(1))
def test_a_world_of_one_has_nobody_to_send_to(ranks, world):
    assert ranks.world(world).run(alone)[0].startswith("rank 0: send: peer 0 is this rank itself")


# ---- graphs ------------------------------------------------------------------------------------------


def captured(make):
    """A stream, and a graph of what make(stream) enqueues."""
    stream = call("hipStreamCreateWithFlags", hip().hipStreamNonBlocking)
    call("hipStreamBeginCapture", stream, hip().hipStreamCaptureMode.hipStreamCaptureModeThreadLocal)
    make(stream)
    graph = call("hipStreamEndCapture", stream)
    return stream, call("hipGraphInstantiateWithFlags", graph, 0)


def replays(comm, rng, counts, turns):
    """Rank 0 has captured sends, rank 1 the receives, and an answer; eager calls come between."""
    memory = Arena(8 << 20)
    buffers = [memory.region(count) for count in counts]
    answer = memory.region(100)
    eager = Arena(1 << 20)

    def make(stream):
        for count, buffer in zip(counts, buffers, strict=True):
            method = comm.send if comm.rank == 0 else comm.recv
            method(buffer.address, 1 - comm.rank, count=count, dtype="uint8", stream=stream)
        method = comm.recv if comm.rank == 0 else comm.send
        method(answer.address, 1 - comm.rank, count=100, dtype="uint8", stream=stream)

    stream, executable = captured(make)
    for turn in range(turns):
        sent = [np.random.default_rng([turn, count]).bytes(count) for count in counts]
        for buffer, data in zip(buffers, sent, strict=True):
            poison = np.full(buffer.nbytes, POISON, np.uint8)
            buffer.put(np.frombuffer(data, np.uint8) if comm.rank == 0 else poison)
        if comm.rank == 1:
            answer.put(np.full(100, turn % 251, np.uint8))
        call("hipDeviceSynchronize")
        cases.skew(rng)
        call("hipGraphLaunch", executable, stream)
        eager.reset()
        message = Message(turn % 2, 1 - turn % 2, turn * 37 % 5000, seed=(79, turn))
        made = messages.make(comm, eager, message, stream)
        comm.barrier(stream=stream)
        comm.synchronize(stream=stream)
        made.check(comm)
        assert [buffer.get(np.dtype(np.uint8)).tobytes() for buffer in buffers] == sent
        assert (answer.get(np.dtype(np.uint8)) == turn % 251).all()
    call("hipGraphExecDestroy", executable)
    call("hipStreamDestroy", stream)


@pytest.mark.parametrize("world", worlds(2))
@with_every_algorithm
def test_replays(ranks, algorithm, world):
    ranks.world(world, algorithm=algorithm).run(replays, (5, 1000, 60_000, 2_000_000, 0), 60)


# ---- the numbers of messages -------------------------------------------------------------------------


@pytest.mark.parametrize("world", worlds(2, 3))
@pytest.mark.parametrize("first", (LAST_NUMBER - 40, SCRUB_PERIOD - 20, 2 * SCRUB_PERIOD - 3))
@with_every_algorithm
def test_numbers_wrap(ranks, algorithm, first, world):
    """Across the end of the 32-bit number, and across the wipe of old flags."""
    ranks.world(world, first, algorithm=algorithm).run(mixed_calls, first % 1000, 300)


class Channels:
    """The channels' part of this rank's control slab (hipcomm/abi/slabs.h)."""

    NUMBERS, ARRIVED, TAKEN, REFUSALS, ENVELOPES, SLOTS = (
        SLABS[f"CHANNEL_{part}_OFFSET"]
        for part in ("NUMBERS", "ARRIVED", "TAKEN", "REFUSALS", "ENVELOPES", "SLOTS")
    )
    WORDS, DONE, END = SLABS["CHANNEL_WORDS"], SLABS["CHANNEL_DONE"], SLABS["LINES_OFFSET"]

    def __init__(self, comm):
        self._base = int(ffi.cast("uintptr_t", comm._session._slabs.control[comm.rank]))

    def read(self, begin, end, dtype):
        data = np.zeros((end - begin) // np.dtype(dtype).itemsize, dtype)
        source = ctypes.c_void_p(self._base + begin)
        call("hipMemcpy", data, source, data.nbytes, hip().hipMemcpyKind.hipMemcpyDeviceToHost)
        return data

    def write(self, begin, data):
        target = ctypes.c_void_p(self._base + begin)
        call("hipMemcpy", target, data, data.nbytes, hip().hipMemcpyKind.hipMemcpyHostToDevice)


def go_to_number(comm, rng, number):
    """What billions of messages would do. No rank may be in a call."""
    channels = Channels(comm)
    channels.write(Channels.NUMBERS, np.full(2 * Channels.WORDS, number, np.uint32))
    taken = (number - 1) << 32 | Channels.DONE
    channels.write(Channels.TAKEN, np.full(Channels.WORDS, taken, np.uint64))


def numbers_in_flags(comm, rng):
    """The numbers that the flags of lines and the words of long messages show."""
    channels = Channels(comm)
    parts = ((Channels.ARRIVED, Channels.TAKEN), (Channels.ENVELOPES, Channels.END))
    words = np.concatenate([channels.read(begin, end, np.uint64) for begin, end in parts])
    return {int(number) for number in np.unique(words >> 32)}


@pytest.mark.parametrize("world", worlds(2))
@pytest.mark.parametrize("wiped", (True, False))
def test_old_flags_are_wiped(own_ranks, world, wiped):
    """A line or a word that no later message has overwritten must not be there when its number comes again:
    lines of short messages, words of long ones. Without the wipe it would be."""
    two = own_ranks.world(world)
    two.run(go_to_number, 1000)
    for size in (4096, 1 << 22):
        two.run(every_pair, [size] * 2 * SLOTS, 80)
    old = set(range(1000, 1000 + 4 * SLOTS))
    for flags in two.run(numbers_in_flags):
        assert flags & old
    end = 3 * SCRUB_PERIOD if wiped else 3 * SCRUB_PERIOD // 2
    two.run(go_to_number, end - SLOTS)
    two.run(every_pair, [0] * SLOTS, 81)
    for flags in two.run(numbers_in_flags):
        assert bool(flags & old) != wiped
        assert {end - 1, end - SLOTS} <= flags


# ---- communicators -----------------------------------------------------------------------------------


def parts(comm, rng, seed):
    """A part of the ranks, in reverse order, and all of them: channels of each are its own."""
    part = comm.split(comm.rank % 2, -comm.rank)
    for turn in range(5):
        messages.run(part, rng, [random_message(np.random.default_rng(turn), part.world_size, (seed, turn))])
        messages.run(comm, rng, [random_message(np.random.default_rng(turn), comm.world_size, (seed, turn))])
    part.close()


@pytest.mark.parametrize("world", worlds(4))
def test_split(ranks, world):
    ranks.world(world).run(parts, 82)


@pytest.mark.parametrize("world", worlds(3))
def test_ranks_as_threads(world):
    in_one_process(
        """
        import messages
        from regions import Arena

        def body(comm):
            memory, shared = Arena(8 << 20), np.random.default_rng(83)
            for number in range(200):
                count = int(2 ** shared.uniform(0, 20))
                message = messages.random_message(shared, comm.world_size, (83, number), count=count // 8)
                memory.reset()
                made = messages.make(comm, memory, message)
                comm.synchronize()
                if made is not None:
                    made.check(comm)

        with hipcomm.init_all([0, 1, 2]) as comms:
            in_threads(comms, body)
        """
    )


class Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def logged(comm, rng):
    handler = Lines()
    logging.getLogger("hipcomm").addHandler(handler)
    try:
        messages.run(comm, rng, [Message(0, 1, 100), Message(0, 1, 1 << 20)])
    finally:
        logging.getLogger("hipcomm").removeHandler(handler)
    return handler.lines, [comm.plan(name, nbytes) for name in ("send", "recv") for nbytes in (100, 1 << 20)]


@pytest.mark.parametrize("world", worlds(2))
def test_plan_and_log(own_ranks, world):
    for rank, (lines, plans) in enumerate(own_ranks.world(world, log="debug").run(logged)):
        name = ("send", "recv")[rank]
        assert [plan.algorithm for plan in plans] == ["one_shot", "pipelined"] * 2
        assert [plan.kernel for plan in plans] == ["hipcomm_send"] * 2 + ["hipcomm_recv"] * 2
        for line, nbytes, plan in zip(lines, (100, 1 << 20), plans[2 * rank :], strict=False):
            assert line.startswith(f"rank {rank}: {name} of {nbytes} bytes, uint8, "), line
            assert f"{plan.algorithm}, {plan.kernel}, {plan.grid} blocks" in line
        assert len(lines) == 2
