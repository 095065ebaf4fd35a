"""One rank of a benchmark job: join the contestants, measure every size, and report on rank 0.

Run as ``python -m hipcomm_bench.worker OPTIONS.json RESULT.json`` by hipcomm_bench.launch, under mpirun or
hipcomm-run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from hipcomm_bench.contestants import CONTESTANTS, Contestant, Unsupported
from hipcomm_bench.data import allocate, count_wrong, dtype_of, fill
from hipcomm_bench.measure import Effort, measure
from hipcomm_bench.ops import OPS, Call, bandwidths
from hipcomm_bench.results import Job, Options, Row
from hipcomm_bench.table import nccl_header, nccl_line
from hipcomm_bench.world import HipcommWorld, MpiWorld, World, under_mpirun

Say = Callable[[str], None]


def run(options: Options, say: Say) -> Job | None:
    """Measure everything that `options` asks for, as one rank of a job; return the results on rank 0.

    A rank that fails closes nothing, since closing is collective and would wait for the others: its
    exception ends the process, and the launcher ends the job.

    Args:
        options: the same on every rank.
        say: on rank 0, called with each line of the table as it is found.
    """
    world: World = MpiWorld() if under_mpirun() else HipcommWorld()
    job = Job(ranks=world.size)
    joined = _join(options.contestants, world, job)
    if world.rank == 0:
        say(nccl_header())
    for size in options.sizes:
        for in_place in options.modes:
            call = Call(OPS[options.op], options.dtype, options.redop, in_place)
            rows, reasons = _measure_size(options, call, size, joined, world)
            job.rows += rows
            job.unsupported += [reason for reason in reasons if reason not in job.unsupported]
        if world.rank == 0:
            for name in joined:
                line = nccl_line(options, job.find(name, size, False), job.find(name, size, True))
                if line:
                    say(line)
    for contestant in joined.values():
        contestant.close()
    world.close()
    return job if world.rank == 0 else None


def _join(names: list[str], world: World, job: Job) -> dict[str, Contestant]:
    """Return the contestants that can take part, and note in `job` which version, or why not."""
    joined = {}
    for name in names:
        kind = CONTESTANTS[name]
        reason = kind.why_missing()
        if reason is None and name == "openmpi" and not under_mpirun():
            reason = "the ranks were not started by mpirun"
        if reason is None:
            joined[name] = kind(world)
            job.versions[name] = joined[name].version
        else:
            job.missing[name] = reason
    return joined


def _measure_size(
    options: Options, call: Call, size: int, joined: dict[str, Contestant], world: World
) -> tuple[list[Row], list[str]]:
    """Return the rows of the contestants for one size, and why some have none."""
    buffers = allocate(call, size, world.rank, world.size)
    runs, wrong, reasons = {}, {}, []
    for name, contestant in joined.items():
        try:
            runs[name] = contestant.prepare(call, buffers)
        except Unsupported as reason:
            reasons.append(f"{name}: {reason}")
            continue
        if options.check:
            fill(buffers, call, world.rank, world.size)
            runs[name]()
            everyones = world.gather([count_wrong(buffers, call, world.rank, world.size)])
            wrong[name] = int(sum(count for (count,) in everyones))
    # From here on the values do not matter: repeated in place, a sum soon is infinite, at the same speed.
    fill(buffers, call, world.rank, world.size)
    timings = measure(runs, world, Effort(options.iterations, options.warmup, options.budget))

    itemsize = dtype_of(call.dtype).itemsize
    count = max(call.op.elements(size, itemsize, world.size))
    rows = []
    for name, timing in timings.items():
        algbw, busbw = bandwidths(call.op, count * itemsize, timing.p50, world.size)
        row = Row(
            contestant=name,
            size=size,
            count=count,
            in_place=call.in_place,
            p50_us=timing.p50 * 1e6,
            p99_us=timing.p99 * 1e6,
            algbw=algbw,
            busbw=busbw,
            calls=timing.calls,
            wrong=wrong.get(name),
        )
        rows.append(row)
    return rows, reasons


def main() -> None:
    """Read the options from the first file named on the command line; write the job to the second."""
    options_file, result_file = map(Path, sys.argv[1:])
    options = Options(**json.loads(options_file.read_text(encoding="utf-8")))
    job = run(options, lambda line: print(line, flush=True))
    if job is not None:
        result_file.write_text(json.dumps(asdict(job)), encoding="utf-8")


if __name__ == "__main__":
    main()
