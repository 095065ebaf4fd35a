"""A soak: millions of small collectives, all operations mixed, eager and as graphs, every bit checked.

``python -m hipcomm_bench.soak -g 4 --calls 10000000``. It makes up a few programmes (see
hipcomm_bench.programme) and runs them in random order, each time with other inputs, as eager calls or as a
graph; after each run the whole arena is compared. Now and then a rank is late on purpose.

The device is not idle for that: inputs lie ready in its memory, and what a run has left is copied to the host
after it and compared there while the next one is under way.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import click
import numpy as np

from hipcomm.hip import call, hip
from hipcomm_bench.launch import JobFailed, hipcomm_run, run_bounded
from hipcomm_bench.memory import DeviceArray, DeviceMemory, PinnedMemory, enqueue_copy
from hipcomm_bench.programme import MIXED, Programme
from hipcomm_bench.session import Session, begin
from hipcomm_bench.sizes import parse_size
from hipcomm_bench.world import under_launcher

_PROGRAMMES = 8
_STEPS = 256  # calls in a programme
_INPUTS = 4
_LATE = 0.02  # of the runs have one rank late,
_LATENESS = 0.005  # by so many seconds at most
_TELL_EVERY = 10.0  # seconds


@dataclass
class _Loaded:
    """A programme, bound to a communicator: its calls, and the same calls as an executable graph.

    Attributes:
        inputs: what the arena has to hold before, one after the other.
    """

    programme: Programme
    memory: DeviceMemory
    inputs: DeviceMemory
    calls: list[partial[None]]
    graph: Any


@dataclass
class _Place:
    """Where the outcome of a run goes, and the event after its copy."""

    memory: PinnedMemory
    event: Any


@dataclass
class _Run:
    """A run that is under way."""

    loaded: _Loaded
    number: int  # of the input
    as_graph: bool
    place: _Place


class Soak:
    """One rank of a soak."""

    def __init__(self, session: Session, seed: int, largest: int) -> None:
        """Make up the programmes and capture them. Collective; all ranks pass the same."""
        assert session.stream is not None
        self._session, self._seed, self._stream = session, seed, session.stream
        self._comm = session.communicator("soak")
        ops = [name for name in MIXED if hasattr(self._comm, name)]
        self._loaded = [self._load(f"{seed}/{n}", ops, largest) for n in range(_PROGRAMMES)]
        room = max(loaded.programme.size for loaded in self._loaded)
        flags = hip().hipEventDisableTiming
        self._places = [_Place(PinnedMemory(room), call("hipEventCreateWithFlags", flags)) for _ in range(2)]

    def _load(self, seed: str, ops: list[str], largest: int) -> _Loaded:
        world = self._session.world
        programme = Programme(
            seed, world.rank, world.size, ops=ops, calls=_STEPS, largest=largest, inputs=_INPUTS
        )
        memory, inputs = DeviceMemory(programme.size), DeviceMemory(_INPUTS * programme.size)
        for number, before in enumerate(programme.before):
            inputs.write(number * programme.size, before)

        def array(offset: int, count: int, dtype: np.dtype[Any]) -> DeviceArray:
            return DeviceArray(memory.address + offset, (count,), dtype)

        calls = programme.bind(self._comm, array, self._stream)
        for each in calls:  # once eagerly: what drivers put off until the first launch is not for graphs
            each()
        self._comm.synchronize(stream=self._stream)
        call(
            "hipStreamBeginCapture", self._stream, hip().hipStreamCaptureMode.hipStreamCaptureModeThreadLocal
        )
        for each in calls:
            each()
        graph = call("hipStreamEndCapture", self._stream)
        executable = call("hipGraphInstantiateWithFlags", graph, 0)
        call("hipGraphDestroy", graph)
        return _Loaded(programme, memory, inputs, calls, executable)

    def run(self, calls: int, tell: Callable[[str], None]) -> None:
        """Make at least `calls` calls.

        Args:
            calls: how many.
            tell: called with a line of progress every few seconds, and at the end.

        Raises:
            WrongResult: at the first run that did not leave exactly what it should have.
        """
        order = random.Random(self._seed)  # the same on all ranks
        begun = exact = replayed = 0
        under_way: _Run | None = None
        started = told = time.monotonic()
        while exact < calls:
            last, under_way = under_way, None
            if begun < calls:
                under_way = self._begin(order, self._places[begun // _STEPS % 2])
                begun += _STEPS
            if last is None:
                continue
            problem = self._problem_of(last)
            if problem:
                how = "a graph" if last.as_graph else "eager calls"
                raise WrongResult(f"rank {self._session.world.rank}, after {exact} calls, {how}: {problem}")
            exact += _STEPS
            replayed += _STEPS * last.as_graph
            now = time.monotonic()
            if now - told > _TELL_EVERY or exact >= calls:
                told = now
                rate = exact / (now - started)
                tell(f"{exact} of {calls} calls exact, {replayed} of them in graphs, {rate:.0f} calls/s")

    def _begin(self, order: random.Random, place: _Place) -> _Run:
        """Enqueue a run of a programme, both chosen at random; `place` is free."""
        run = _Run(
            self._loaded[order.randrange(_PROGRAMMES)], order.randrange(_INPUTS), order.random() < 0.5, place
        )
        is_late, who, seconds = order.random() < _LATE, order.random(), order.random() * _LATENESS
        if is_late and int(who * self._session.world.size) == self._session.world.rank:
            time.sleep(seconds)
        loaded, size, stream = run.loaded, run.loaded.programme.size, self._stream
        enqueue_copy(loaded.memory.address, loaded.inputs.address + run.number * size, size, stream)
        if run.as_graph:
            call("hipGraphLaunch", loaded.graph, stream)
        else:
            for each in loaded.calls:
                each()
        enqueue_copy(place.memory.address, loaded.memory.address, size, stream)
        call("hipEventRecord", place.event, stream)
        return run

    def _problem_of(self, run: _Run) -> str:
        """Wait for a run; return what is wrong with what it left, in words, or an empty text."""
        call("hipEventSynchronize", run.place.event)
        programme, found = run.loaded.programme, run.place.memory
        if found.holds(programme.after[run.number]):
            return ""
        # a kernel that gave up has left wrong bits too; then that is the news, and this raises it
        self._comm.synchronize(stream=self._stream)
        return programme.find_wrong(found.read(programme.size), run.number)

    def close(self) -> None:
        """Destroy the graphs, leave the others, free the memory."""
        for loaded in self._loaded:
            call("hipGraphExecDestroy", loaded.graph)
        self._comm.close()
        for loaded in self._loaded:
            loaded.memory.free()
            loaded.inputs.free()
        for place in self._places:
            call("hipEventDestroy", place.event)
            place.memory.free()


class WrongResult(Exception):
    """A collective left other bits than it should have; the message names rank, call and elements."""


def _soak(calls: int, seed: int, largest: int) -> None:
    """Be one rank."""
    session = begin("uint8", largest, graph=1)
    soak = Soak(session, seed, largest)
    if session.world.rank == 0:
        click.echo(f"# {session.world.size} ranks on {session.platform}: {session.device.name}; seed {seed}")
    try:
        soak.run(calls, click.echo if session.world.rank == 0 else _silent)
    except WrongResult as wrong:  # this rank leaves; the launcher ends the others
        raise click.ClickException(str(wrong)) from wrong
    soak.close()
    session.world.close()


def _silent(_line: str) -> None:
    """Say nothing, as ranks other than 0 do."""


def _size(context: click.Context, parameter: click.Parameter, value: str) -> int:
    """Return a size in bytes."""
    try:
        return parse_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("-g", "--ranks", type=click.IntRange(1), default=2, help="World size.")
@click.option("--calls", type=click.IntRange(1), default=1_000_000, help="How many collectives, at least.")
@click.option("-e", "--maxbytes", callback=_size, default="16K", help="Largest message.")
@click.option("--seed", type=click.IntRange(0), help="Makes up the calls and their data.  [default: random]")
@click.option("--timeout", type=float, default=1500.0, help="Seconds after which it is ended.")
def main(*, ranks: int, calls: int, maxbytes: int, seed: int | None, timeout: float) -> None:
    """Make millions of small collectives, operations, dtypes, eager calls and graphs mixed, all checked.

    It starts its ranks itself unless a launcher has. The exit code is 1 at the first wrong bit.
    """
    if under_launcher():
        if seed is None:
            raise click.UsageError("under a launcher all ranks need the same --seed")
        _soak(calls, seed, maxbytes)
        return
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    arguments = ["--calls", str(calls), "--maxbytes", str(maxbytes), "--seed", str(seed)]
    try:
        command, _ = hipcomm_run(ranks)
        run_bounded([*command, "-m", "hipcomm_bench.soak", *arguments], timeout, progress=False)
    except JobFailed as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
