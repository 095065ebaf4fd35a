"""Graph capture: captured collectives, replayed, give the oracle's bits after every replay.

The capture and the replays go through hip-python, as a program's would. Inputs change between replays,
results are poisoned, other graphs and eager calls come between, and ranks are skewed.
"""

from __future__ import annotations

import cases
import numpy as np
import oracle
import pytest
from cases import Case, Made, random_case
from harness import ALGORITHMS, worlds
from regions import Arena

from hipcomm.hip import call, hip

REPLAYS = 300


class Captured:
    """Collectives on fixed buffers, captured into one graph."""

    def __init__(self, comm, memory, chosen, stream):
        """Call once before the capture, as programs do to warm up; then capture the same calls."""
        self.comm = comm
        self.stream = stream
        self.calls = [Made(comm, memory, case) for case in chosen]
        self.replays = 0
        self.fill()
        self.make()
        self.check()
        call("hipStreamBeginCapture", stream, hip().hipStreamCaptureMode.hipStreamCaptureModeThreadLocal)
        self.make()
        graph = call("hipStreamEndCapture", stream)
        self.executable = call("hipGraphInstantiateWithFlags", graph, 0)
        call("hipGraphDestroy", graph)

    def make(self):
        for each in self.calls:
            each.make(self.stream)

    def fill(self):
        """New inputs, and poison where results will be."""
        self.replays += 1
        for each in self.calls:
            each.fill(self.replays)

    def launch(self):
        call("hipGraphLaunch", self.executable, self.stream)

    def check(self):
        self.comm.synchronize(stream=self.stream)
        for each in self.calls:
            each.check(self.comm)

    def destroy(self):
        call("hipGraphExecDestroy", self.executable)


def new_stream():
    return call("hipStreamCreateWithFlags", hip().hipStreamNonBlocking)


def some_cases(comm, shared, how_many, most):
    """Calls of different operations and sizes."""
    chosen = []
    for number in range(how_many):
        operation = oracle.pick(shared, cases.OPERATIONS)
        count = int(shared.integers(0, most)) if number % 3 else int(shared.integers(0, 40))
        if operation in cases.IN_PARTS:
            count //= comm.world_size
        seed = (int(shared.integers(1 << 30)), number)
        chosen.append(random_case(shared, comm.world_size, seed, operation, count=count))
    return chosen


def replay_and_mix(comm, rng, seed, replays):
    """Several graphs of several calls, on registered and unregistered memory, and eager calls between."""
    shared = np.random.default_rng(seed)
    symmetric = comm.empty(4 << 20, "uint8")
    inside = Arena.at(symmetric.data_ptr, symmetric.nbytes)
    outside, eager = Arena(4 << 20), Arena(1 << 20)
    stream = new_stream()
    graphs = [
        Captured(comm, memory, some_cases(comm, shared, how_many, 9000 // comm.world_size), stream)
        for memory, how_many in ((outside, 1), (inside, 4), (outside, 5), (inside, 1))
    ]
    for turn in range(replays):
        cases.skew(rng)
        chosen = [graphs[number] for number in shared.permutation(len(graphs))[: int(shared.integers(1, 4))]]
        made = None
        for graph in chosen:
            graph.fill()
        call("hipDeviceSynchronize")  # what was filled by the default stream is there
        for graph in chosen:
            graph.launch()
            if made is None and shared.random() < 0.5:
                case = some_cases(comm, shared, 2, 2000)[1]
                made = Made(comm, eager, case)
                made.fill(turn)
                call("hipDeviceSynchronize")
                made.make(stream)
        for graph in chosen:
            graph.check()
        if made is not None:
            made.check(comm)
            eager.reset()
    for graph in graphs:
        graph.destroy()
    call("hipStreamDestroy", stream)
    symmetric.free()
    return sum(graph.replays for graph in graphs)


@pytest.mark.parametrize("world", worlds(1, 2, 3, 4))
def test_replays_mixed_with_eager_calls(ranks, world):
    total = ranks.world(world).run(replay_and_mix, 21, REPLAYS)
    assert total[0] > REPLAYS


@pytest.mark.parametrize("algorithm", (*ALGORITHMS, "direct"))
def test_every_algorithm(ranks, algorithm):
    world = worlds(3, 2)[0]
    ranks.world(world, algorithm=algorithm).run(replay_and_mix, 22, 60)


def every_operation(comm, rng, seed, replays, inside):
    """One graph with each operation in it, in registered or other memory."""
    shared = np.random.default_rng(seed)
    stream = new_stream()
    symmetric = comm.empty(4 << 20, "uint8")
    memory = Arena.at(symmetric.data_ptr, symmetric.nbytes) if inside else Arena(4 << 20)
    chosen = [
        random_case(shared, comm.world_size, (seed, number), operation, count=900)
        for number, operation in enumerate(cases.OPERATIONS)
    ]
    graph = Captured(comm, memory, chosen, stream)
    for _ in range(replays):
        cases.skew(rng)
        graph.fill()
        call("hipDeviceSynchronize")
        graph.launch()
        graph.check()
    graph.destroy()
    call("hipStreamDestroy", stream)
    symmetric.free()


@pytest.mark.parametrize("world", worlds(2, 5, 6, 7, 8, 12, 16))
@pytest.mark.parametrize("inside", (False, True))
def test_every_operation_in_one_graph(ranks, inside, world):
    replays = 200 if world == 2 else 60 if world < 8 else 10
    ranks.world(world).run(every_operation, 24, replays, inside)


def replays_in_a_row(comm, rng, replays):
    """A graph that reads its own result, launched many times without looking in between."""
    stream = new_stream()
    x = comm.empty(5000, "int64")
    x.from_host(np.arange(5000, dtype=np.int64) + comm.rank)
    call("hipStreamBeginCapture", stream, hip().hipStreamCaptureMode.hipStreamCaptureModeGlobal)
    comm.all_reduce(x, stream=stream)
    comm.barrier(stream=stream)
    comm.all_reduce(x, op="max", stream=stream)
    executable = call("hipGraphInstantiateWithFlags", call("hipStreamEndCapture", stream), 0)
    for _ in range(replays):
        cases.skew(rng)
        call("hipGraphLaunch", executable, stream)
    comm.synchronize(stream=stream)
    n = comm.world_size
    with np.errstate(over="ignore"):
        expected = np.arange(5000, dtype=np.int64) * n + n * (n - 1) // 2
        for _ in range(replays - 1):
            expected = expected * n
    assert (x.to_host() == expected).all()


@pytest.mark.parametrize("world", worlds(2, 4))
def test_replays_in_a_row(ranks, world):
    ranks.world(world).run(replays_in_a_row, 200)


def capture_does_nothing_yet(comm, rng):
    """A captured call has no effect, and takes no epoch, before its graph is launched."""
    stream = new_stream()
    x = comm.empty(100, "float32")
    x.from_host(np.full(100, 1.0 + comm.rank, np.float32))
    if comm.rank == 0:  # only here, and never launched: the others do not notice
        call("hipStreamBeginCapture", stream, hip().hipStreamCaptureMode.hipStreamCaptureModeThreadLocal)
        comm.all_reduce(x, stream=stream)
        call("hipGraphDestroy", call("hipStreamEndCapture", stream))
        assert (x.to_host() == 1).all()
    comm.all_reduce(x)
    comm.synchronize()
    assert (x.to_host() == sum(1.0 + rank for rank in range(comm.world_size))).all()


@pytest.mark.parametrize("world", worlds(2, 3))
def test_capture_does_nothing_yet(ranks, world):
    ranks.world(world).run(capture_does_nothing_yet)


def other_streams(comm, rng):
    """A graph may be launched on another stream than it was captured on, once that one's work is done."""
    streams = [new_stream() for _ in range(3)]
    memory = Arena(1 << 20)
    case = Case("all_reduce", 3000, kind="plain", seed=(23, 0))
    graph = Captured(comm, memory, [case], streams[0])
    for turn in range(30):
        graph.fill()
        call("hipDeviceSynchronize")
        graph.stream = streams[turn % 3]
        graph.launch()
        graph.check()
    graph.destroy()


@pytest.mark.parametrize("world", worlds(2, 3))
def test_other_streams(ranks, world):
    ranks.world(world).run(other_streams)
