"""One rank of a benchmark job: join the contestants, measure every subject, and report on rank 0.

Run as ``python -m hipcomm_bench.worker OPTIONS.json RESULT.json`` by hipcomm_bench.launch, under mpirun or
hipcomm-run.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hipcomm.hip import call
from hipcomm_bench.clock import Batches, Clock, EachCall, Prepared, Replays
from hipcomm_bench.contestants.base import Library, Unsupported
from hipcomm_bench.machine import gpus
from hipcomm_bench.measure import ROUNDS, Effort, measure
from hipcomm_bench.progress import mark
from hipcomm_bench.results import Job, Options, Row
from hipcomm_bench.session import NO_MULTICAST, Session, begin
from hipcomm_bench.subjects import Subject
from hipcomm_bench.table import mode_name, nccl_header, nccl_line
from hipcomm_bench.task import Task
from hipcomm_bench.workloads import libraries, workload
from hipcomm_bench.world import first_problem

# Calls in a graph or an eager batch on GPUs, where -G does not say otherwise.
_BATCH = 20

Say = Callable[[str], None]
Keep = Callable[[Job], None]


def run(options: Options, say: Say, keep: Keep) -> None:
    """Measure everything that `options` asks for, as one rank of a job.

    A rank that fails closes nothing, since closing is collective and would wait for the others: its
    exception ends the process, and the launcher ends the job.

    Args:
        options: the same on every rank.
        say: on rank 0, called with each line of the table as it is found.
        keep: on rank 0, called with the job after every subject, and with all of it at last.
    """
    session = begin(options.dtype, max(options.sizes), options.graph)
    rank = Rank(session, options, say if session.world.rank == 0 else _silent)
    rank.join()
    steps = [(subject, in_place) for subject in options.subjects for in_place in options.modes]
    for number, (subject, in_place) in enumerate(steps):
        rank.progress(number, len(steps), f"{subject.label} {mode_name(in_place)}")
        rank.measure(subject, in_place)
        if in_place == options.modes[-1]:
            rank.print_lines(subject)
            if session.world.rank == 0:
                keep(rank.job)
    if session.world.rank == 0:
        rank.job.gpus = gpus() if session.platform == "nvidia" else []
        keep(rank.job)
    rank.leave()


def _silent(_line: str) -> None:
    """Say nothing, as ranks other than 0 do."""


class Rank:
    """One rank at work.

    Attributes:
        job: what it has found out.
    """

    def __init__(self, session: Session, options: Options, say: Say) -> None:
        """Allocate the buffers."""
        self._session, self._options, self._say = session, options, say
        self._joined: dict[str, Library] = {}
        self._workload = workload(options, session)
        device = session.device
        name = f"{device.name}, {device.arch}, {device.pci_bus_id}"
        self._clock, how = _clock(options, session)
        self.job = Job(
            ranks=session.world.size,
            platform=session.platform,
            aggregation=f"{how} Contestants take {ROUNDS} turns per size on the same buffers. A rank's time"
            " is the median of its samples, the figure the maximum over ranks.",
            devices=session.world.texts(name),
        )
        if session.platform != "cpu":
            self.job.notes.append(
                "NVLink multicast: " + ", ".join(f"{name}={os.environ[name]}" for name in NO_MULTICAST)
            )

    # ---- contestants -----------------------------------------------------------------------------------

    def join(self) -> None:
        """Join those contestants that can take part, on all ranks or on none; note why the others do not."""
        for name in self._options.contestants:
            kind = libraries(self._options.op)[name]
            reason = self._options.absent.get(name) or kind.why_missing() or ""
            if self._session.platform not in kind.platforms:
                reason = (
                    f"it needs the platform {' or '.join(kind.platforms)}, this is {self._session.platform}"
                )
            reason = first_problem(self._session.world, reason)
            if not reason:
                reason = self._start(name, kind)
            if reason:
                self.job.missing[name] = reason
            else:
                self.job.versions[name] = self._joined[name].version
        for line in self._who():
            self._say(f"# {line}")
        self._say(nccl_header())

    def _who(self) -> list[str]:
        """Return what the figures are about: platform, devices, who takes part."""
        lines = [f"platform: {self._session.platform}, HIP {call('hipRuntimeGetVersion')}"]
        lines += [f"rank {rank}: {device}" for rank, device in enumerate(self.job.devices)]
        lines += [f"{name} {version}" for name, version in self.job.versions.items()]
        return lines + [f"{name} did not run: {reason}" for name, reason in self.job.missing.items()]

    def _start(self, name: str, kind: type[Library]) -> str:
        """Make the contestant; why it is not there, or an empty text."""
        contestant, reason = None, ""
        try:
            contestant = kind(self._session)
        except Exception as error:  # whatever another library raises is reported
            if kind.ours:
                raise
            reason = _in_short(error)
        reason = first_problem(self._session.world, reason)
        if contestant is not None and not reason:
            self._joined[name] = contestant
        return reason

    def leave(self) -> None:
        """Leave everything, in the reverse order."""
        for contestant in reversed(self._joined.values()):
            contestant.close()
        self._workload.free()
        self._session.world.close()

    # ---- one subject -----------------------------------------------------------------------------------

    def measure(self, subject: Subject, in_place: bool) -> None:
        """Check and time every contestant that has this call."""
        options, session = self._options, self._session
        task = self._workload.task(subject, in_place)
        ready, wrong = {}, {}
        for name, contestant in self._joined.items():
            prepared, reason, count = self._try(contestant, task)
            if prepared is None:
                line = f"{name}: {reason}"
                self.job.unsupported += [line] if line not in self.job.unsupported else []
            else:
                ready[name], wrong[name] = prepared, count
        # From here on the values do not matter: repeated in place, a sum soon is infinite, at the same speed.
        task.fill(None)
        effort = Effort(options.iterations, options.warmup, options.budget)
        timings = measure(ready, session.world, effort, self._clock)
        for name, timing in timings.items():
            algbw, busbw = task.bandwidths(self._joined[name], timing.p50)
            self.job.rows.append(
                Row(
                    contestant=name,
                    size=subject.size,
                    shape=subject.shape,
                    count=task.count,
                    in_place=in_place,
                    p50_us=timing.p50 * 1e6,
                    p99_us=timing.p99 * 1e6,
                    algbw=algbw,
                    busbw=busbw,
                    calls=timing.calls,
                    wrong=wrong[name],
                    batch=timing.batch,
                    host_us=None if timing.host is None else timing.host * 1e6,
                )
            )

    def _try(self, contestant: Library, task: Task) -> tuple[Prepared | None, str, int | None]:
        """Make the call, and check its result once; the call, or None and why not, and the wrong elements."""
        session = self._session
        world = session.world
        prepared, reason, count = None, "", 0
        try:
            prepared = task.prepare(contestant)
            if isinstance(self._clock, Replays) and not prepared.capture:
                raise Unsupported("its calls cannot be captured into a graph")
        except Unsupported as unsupported:
            reason = str(unsupported)
        except Exception as error:
            if contestant.ours:
                raise
            reason = _in_short(error)
        # nobody calls before all can: a rank that waits for one that does not come waits for long
        reason = first_problem(world, reason)
        if reason or prepared is None:
            return None, reason, None
        try:
            prepared.run()  # what a library does at its first call of a kind is not for graphs
            prepared.wait()
            if self._options.check:
                task.fill(contestant)
            prepared.load()
            session.synchronize()
            world.barrier()
            self._clock.once(prepared)
            session.synchronize()
            prepared.store()
            if self._options.check:
                count = task.count_wrong(contestant)
        except Exception as error:
            if contestant.ours:
                raise
            reason = _in_short(error)
        reason = first_problem(world, reason)
        if reason:
            return None, reason, None
        total = int(sum(each for (each,) in world.gather([count])))
        return prepared, "", total if self._options.check else None

    # ---- what the user sees ----------------------------------------------------------------------------

    def print_lines(self, subject: Subject) -> None:
        """Say the lines of one subject."""
        for name in self._joined:
            halves = [self.job.find(name, subject, in_place) for in_place in (False, True)]
            line = nccl_line(self._options, *halves)
            if line:
                self._say(line)

    def progress(self, done: int, total: int, what: str) -> None:
        """Say how far it is, if asked for."""
        if self._options.progress:
            self._say(mark(done, total, what))


def _clock(options: Options, session: Session) -> tuple[Clock[Any], str]:
    """Return the way of timing that was asked for, and a sentence about it."""
    if session.stream is None:
        return EachCall(), "Every call is timed by itself, by the host's clock."
    graph = _BATCH if options.graph is None else options.graph
    if graph == 0:
        text = f"Eager calls, at most {_BATCH} in a row per sample, timed by the device's clock."
        return Batches(session.stream, _BATCH), text
    text = f"Graphs of at most {graph} calls, replayed once per sample, timed by the device's clock."
    return Replays(session.stream, graph), text


def _in_short(error: Exception) -> str:
    """Return the first line of what an error says; torch's go on with C++ frames."""
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}"[:300] if not isinstance(error, Unsupported) else text


def main() -> None:
    """Read the options from the first file named on the command line; write the job to the second."""
    options_file, result_file = map(Path, sys.argv[1:])
    options = Options.from_dict(json.loads(options_file.read_text(encoding="utf-8")))

    def keep(job: Job) -> None:
        unfinished = result_file.with_suffix(".part")
        unfinished.write_text(json.dumps(asdict(job)), encoding="utf-8")
        unfinished.replace(result_file)

    run(options, lambda line: print(line, flush=True), keep)


if __name__ == "__main__":
    main()
