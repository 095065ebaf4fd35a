"""One rank of a benchmark job: join the contestants, measure every size, and report on rank 0.

Run as ``python -m hipcomm_bench.worker OPTIONS.json RESULT.json`` by hipcomm_bench.launch, under mpirun or
hipcomm-run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hipcomm_bench.contestants import CONTESTANTS, Contestant, Unsupported
from hipcomm_bench.data import allocate, count_wrong, dtype_of, fill
from hipcomm_bench.measure import Effort, Timing, measure
from hipcomm_bench.ops import OPS, Call, bandwidths
from hipcomm_bench.results import Job, Options, Row
from hipcomm_bench.table import nccl_header, nccl_line
from hipcomm_bench.world import HipcommWorld, MpiWorld, World, under_mpirun

Say = Callable[[str], None]


def run(options: Options, say: Say) -> Job | None:
    """Measure everything that `options` asks for, as one rank of a job; return the results on rank 0.

    Args:
        options: the same on every rank.
        say: on rank 0, called with each line of the table as it is found.
    """
    with ExitStack() as stack:
        world: World = MpiWorld() if under_mpirun() else stack.enter_context(_hipcomm_world())
        job = Job(ranks=world.size)
        joined: dict[str, Contestant] = {}
        for name in options.contestants:
            kind = CONTESTANTS[name]
            reason = kind.why_missing()
            if reason is None and name == "openmpi" and not under_mpirun():
                reason = "the ranks were not started by mpirun"
            if reason is not None:
                job.missing[name] = reason
                continue
            joined[name] = kind(world)
            stack.callback(joined[name].close)
            job.versions[name] = joined[name].version
        if world.rank == 0:
            say(nccl_header())
        for size in options.sizes:
            for in_place in options.modes:
                job.rows += _measure_size(options, size, in_place, joined, world, job.unsupported)
            if world.rank == 0:
                for name in joined:
                    line = nccl_line(options, job.find(name, size, False), job.find(name, size, True))
                    if line:
                        say(line)
        world.barrier()
    return job if world.rank == 0 else None


class _hipcomm_world:
    """A HipcommWorld as a context: its communicator is closed at the end."""

    def __enter__(self) -> HipcommWorld:
        import hipcomm

        self._comm: Any = hipcomm.init()
        return HipcommWorld(self._comm)

    def __exit__(self, *exception: object) -> None:
        self._comm.close()


def _measure_size(
    options: Options,
    size: int,
    in_place: bool,
    joined: dict[str, Contestant],
    world: World,
    unsupported: list[str],
) -> list[Row]:
    """Return the rows of all contestants for one size; reasons for missing ones go to `unsupported`."""
    call = Call(OPS[options.op], options.dtype, options.redop, in_place)
    buffers = allocate(call, size, world.rank, world.size)
    runs, wrong = {}, {}
    for name, contestant in joined.items():
        try:
            runs[name] = contestant.prepare(call, buffers)
        except Unsupported as reason:
            if f"{name}: {reason}" not in unsupported:
                unsupported.append(f"{name}: {reason}")
            continue
        if options.check:
            fill(buffers, call, world.rank, world.size)
            runs[name]()
            everyones = world.gather([count_wrong(buffers, call, world.rank, world.size)])
            wrong[name] = int(sum(count for (count,) in everyones))
    fill(buffers, call, world.rank, world.size)
    timings = measure(runs, world, Effort(options.iterations, options.warmup, options.budget))
    return [_row(call, name, size, world.size, timing, wrong.get(name)) for name, timing in timings.items()]


def _row(call: Call, name: str, size: int, ranks: int, timing: Timing, wrong: int | None) -> Row:
    itemsize = dtype_of(call.dtype).itemsize
    count = max(call.op.elements(size, itemsize, ranks))
    algbw, busbw = bandwidths(call.op, count * itemsize, timing.p50, ranks)
    return Row(
        contestant=name,
        size=size,
        count=count,
        in_place=call.in_place,
        p50_us=timing.p50 * 1e6,
        p99_us=timing.p99 * 1e6,
        algbw=algbw,
        busbw=busbw,
        calls=timing.calls,
        wrong=wrong,
    )


def main() -> None:
    """Read the options from the first file named on the command line; write the job to the second."""
    options_file, result_file = map(Path, sys.argv[1:])
    options = Options(**json.loads(options_file.read_text(encoding="utf-8")))
    job = run(options, lambda line: print(line, flush=True))
    if job is not None:
        result_file.write_text(json.dumps(asdict(job)), encoding="utf-8")


if __name__ == "__main__":
    main()
