"""Three ways to time a call: each by itself, many in a row on a device, and many as a replayed graph.

Measuring (hipcomm_bench.measure) goes through the same steps with each of them: try the call, arm it,
take samples of it in several rounds, disarm it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Generic, Protocol, TypeVar

from hipcomm.hip import call, hip

# A batch or a graph that takes longer than this has fewer calls, so that there are samples enough.
_LONG = 10e-3

_now = time.perf_counter_ns


def nothing() -> None:
    """Do nothing: the default of the steps below."""


def in_turn(*calls: Callable[[], Any]) -> Callable[[], Any]:
    """Return one call that makes these, one after the other."""

    def run() -> None:
        for each in calls:
            each()

    return run


@dataclass(frozen=True)
class Prepared:
    """One call of one contestant, ready to be made any number of times.

    Attributes:
        run: makes the call: enqueues it on the session's stream, or completes it where there is none.
        load: brings the input from the send buffer to where the contestant needs it; not timed.
        store: brings the result to the receive buffer from where the contestant left it; not timed.
        wait: waits until the calls are complete, and raises what went wrong on the device.
        capture: whether the call may be captured into a graph.
    """

    run: Callable[[], Any]
    load: Callable[[], Any] = nothing
    store: Callable[[], Any] = nothing
    wait: Callable[[], Any] = nothing
    capture: bool = True


@dataclass
class Samples:
    """Times of a call on this rank, in seconds; `host` is what the calling thread spends on one."""

    times: list[float] = field(default_factory=list)
    host: list[float] = field(default_factory=list)

    def extend(self, other: Samples) -> None:
        """Add the other's samples."""
        self.times += other.times
        self.host += other.host


Armed = TypeVar("Armed")


class Clock(Protocol[Armed]):
    """A way of timing. What it is armed with stays the same for all samples."""

    def once(self, prepared: Prepared) -> None:
        """Make one call in the way in which the samples are made, and wait for it."""

    def trial(self, prepared: Prepared, calls: int) -> float:
        """Make some calls; return about how many seconds one takes."""

    def calls(self, seconds: float) -> int:
        """Return how many calls are in a sample, if one takes `seconds`; a pure function."""

    def arm(self, prepared: Prepared, calls: int) -> Armed:
        """Get ready for samples of `calls` calls. It makes none."""

    def take(self, armed: Armed, count: int) -> Samples:
        """Take `count` samples, after one that is thrown away: it still has the others' start in it."""

    def disarm(self, armed: Armed) -> None:
        """Give back what arm() made; raises what went wrong on the device meanwhile."""


class EachCall:
    """Times every call from the call to its completion, by the host's clock."""

    def once(self, prepared: Prepared) -> None:
        """Make one call and wait for it."""
        prepared.run()
        prepared.wait()

    def trial(self, prepared: Prepared, calls: int) -> float:
        """Return the shortest time of `calls` calls."""
        return min(self._time(prepared, calls))

    def calls(self, seconds: float) -> int:
        """Return 1."""
        return 1

    def arm(self, prepared: Prepared, calls: int) -> Prepared:
        """Return the call."""
        return prepared

    def take(self, armed: Prepared, count: int) -> Samples:
        """Time `count` calls after an untimed one."""
        armed.run()
        armed.wait()
        return Samples(self._time(armed, count))

    def disarm(self, armed: Prepared) -> None:
        """Raise what went wrong."""
        armed.wait()

    def _time(self, prepared: Prepared, calls: int) -> list[float]:
        run, wait, times = prepared.run, prepared.wait, []
        immediate = wait is nothing
        for _ in range(calls):
            start = _now()
            run()
            if not immediate:
                wait()
            times.append((_now() - start) * 1e-9)
        return times


class _OnStream(Generic[Armed]):
    """What batches and graphs have in common: a stream, and events between the samples."""

    def __init__(self, stream: int, most: int) -> None:
        """Take samples on `stream`, of at most `most` calls each."""
        self._stream = stream
        self._most = most
        self._events: list[Any] = []

    def trial(self, prepared: Prepared, calls: int) -> float:
        """Return the time per call of `calls` calls by the device's clock."""
        first, last = self._events_for(2)
        call("hipEventRecord", first, self._stream)
        for _ in range(calls):
            prepared.run()
        call("hipEventRecord", last, self._stream)
        prepared.wait()
        call("hipStreamSynchronize", self._stream)
        return float(call("hipEventElapsedTime", first, last)) * 1e-3 / calls

    def calls(self, seconds: float) -> int:
        """Return the most, or fewer for long calls."""
        return max(1, min(self._most, int(_LONG / max(seconds, 1e-9))))

    def _between_events(self, steps: int, step: Callable[[], Any]) -> list[float]:
        """Do `step` 1 + `steps` times, an event after each; the seconds between the events."""
        events = self._events_for(1 + steps)
        for event in events:
            step()
            call("hipEventRecord", event, self._stream)
        call("hipStreamSynchronize", self._stream)
        return [float(call("hipEventElapsedTime", a, b)) * 1e-3 for a, b in pairwise(events)]

    def _events_for(self, count: int) -> list[Any]:
        while len(self._events) < count:
            self._events.append(call("hipEventCreate"))
        return self._events[:count]


@dataclass(frozen=True)
class _Batch:
    """So many calls in a row."""

    prepared: Prepared
    calls: int


class Batches(_OnStream[_Batch]):
    """Times eager calls: batches of them in a row on the stream, an event between two batches.

    A sample is the device's time for a batch, divided by its calls. Where the host is slower than the
    device, that is the host's pace, as it is for a program that makes eager calls.
    """

    def once(self, prepared: Prepared) -> None:
        """Make one call and wait for it."""
        prepared.run()
        prepared.wait()

    def arm(self, prepared: Prepared, calls: int) -> _Batch:
        """Return the batch."""
        return _Batch(prepared, calls)

    def take(self, armed: _Batch, count: int) -> Samples:
        """Time `count` batches, on the device and on the host."""
        run, calls, host = armed.prepared.run, armed.calls, []

        def batch() -> None:
            start = _now()
            for _ in range(calls):
                run()
            host.append((_now() - start) * 1e-9 / calls)

        times = self._between_events(count, batch)
        armed.prepared.wait()
        return Samples([seconds / calls for seconds in times], host[1:])

    def disarm(self, armed: _Batch) -> None:
        """Raise what went wrong."""
        armed.prepared.wait()


@dataclass(frozen=True)
class _Graph:
    """So many calls as an executable graph."""

    prepared: Prepared
    calls: int
    executable: Any


class Replays(_OnStream[_Graph]):
    """Times calls that were captured into a graph: replays in a row, an event between two.

    A sample is the device's time for a replay, divided by the calls in the graph. The host's time is that
    of eager calls, a batch per round, whose device time does not count.
    """

    def once(self, prepared: Prepared) -> None:
        """Replay a graph of one call and wait for it."""
        armed = self.arm(prepared, 1)
        call("hipGraphLaunch", armed.executable, self._stream)
        self.disarm(armed)

    def arm(self, prepared: Prepared, calls: int) -> _Graph:
        """Capture `calls` calls. Raises PlatformError, or what the contestant raises in a capture."""
        mode = hip().hipStreamCaptureMode.hipStreamCaptureModeThreadLocal
        call("hipStreamBeginCapture", self._stream, mode)
        try:
            for _ in range(calls):
                prepared.run()
        except BaseException:
            hip().hipStreamEndCapture(self._stream)  # whatever it returns: the first error is the one
            raise
        graph = call("hipStreamEndCapture", self._stream)
        executable = call("hipGraphInstantiateWithFlags", graph, 0)
        call("hipGraphDestroy", graph)
        return _Graph(prepared, calls, executable)

    def take(self, armed: _Graph, count: int) -> Samples:
        """Time `count` replays on the device, and a batch of eager calls on the host."""
        times = self._between_events(count, lambda: call("hipGraphLaunch", armed.executable, self._stream))
        start = _now()
        for _ in range(armed.calls):
            armed.prepared.run()
        host = (_now() - start) * 1e-9 / armed.calls
        armed.prepared.wait()
        call("hipStreamSynchronize", self._stream)
        return Samples([seconds / armed.calls for seconds in times], [host])

    def disarm(self, armed: _Graph) -> None:
        """Destroy the graph; raise what went wrong."""
        armed.prepared.wait()
        call("hipStreamSynchronize", self._stream)
        call("hipGraphExecDestroy", armed.executable)
