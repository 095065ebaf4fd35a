"""The command hipcomm-bench."""

from __future__ import annotations

import datetime
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from hipcomm_bench import spellings
from hipcomm_bench.contestants import GROUPS
from hipcomm_bench.data import DTYPES, REDOPS
from hipcomm_bench.launch import JobFailed, divide, run_job
from hipcomm_bench.machine import describe
from hipcomm_bench.norms.quantise import FORMATS, parse
from hipcomm_bench.norms.rows import FUSED, NORMS
from hipcomm_bench.ops import OPS
from hipcomm_bench.plot import draw, why_not
from hipcomm_bench.question import (
    DECODE,
    MODES,
    PREFILL,
    WITH_DIM,
    all_contestants,
    arrays,
    contestants,
    messages,
    modes,
    refuse_what_does_not_apply,
    rows,
)
from hipcomm_bench.report import write
from hipcomm_bench.results import Job, Options, Report
from hipcomm_bench.table import align, closing_lines, comparison, mode_name
from hipcomm_bench.worker import run
from hipcomm_bench.world import under_launcher
from hipcomm_launcher.options import SETTINGS, platform_option, version_option


def _plot(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """Return the file to draw into, if that can be done."""
    reason = None if value is None else why_not(value)
    if reason is not None:
        raise click.BadParameter(reason)
    return value


def _quantised(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return the format, if there is such a one."""
    try:
        if value is not None:
            parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return value


SIZE = spellings.Size()
_COMMAND_LINE = click.core.ParameterSource.COMMANDLINE


@click.command(context_settings={**SETTINGS, "show_default": True})
@version_option("hipcomm-bench")
@click.argument("op", type=spellings.operation([*OPS, FUSED]), default="all_reduce")
@click.option("-b", "--minbytes", type=SIZE, default="1K", help="Smallest message.")
@click.option("-e", "--maxbytes", type=SIZE, default="64M", help="Largest message.")
@click.option("-f", "--stepfactor", type=int, default=2, help="Factor between sizes.")
@click.option("-i", "--stepbytes", type=SIZE, help="Bytes between sizes, in place of a factor.")
@click.option(
    "--shape",
    type=spellings.Shape(),
    multiple=True,
    help=f"{', '.join(WITH_DIM)}: of the larger buffer, such as 64x128256, in place of sizes; repeatable.",
)
@click.option(
    "--dim", type=int, default=0, help="Dimension of --shape along which the ranks' parts are put together."
)
@click.option(
    "--hidden",
    type=click.IntRange(1, 65536),
    multiple=True,
    default=[4096],
    help=f"{FUSED}: elements of a row; repeatable.",
)
@click.option(
    "--tokens",
    type=click.IntRange(1),
    multiple=True,
    help=f"{FUSED}: rows; repeatable.  [default: {', '.join(map(str, (*DECODE, *PREFILL)))}]",
    show_default=False,
)
@click.option("--norm", type=click.Choice(NORMS), default=NORMS[0], help=f"{FUSED}: which norm.")
@click.option(
    "--quantised",
    callback=_quantised,
    metavar="FORMAT",
    help=f"{FUSED}: write codes and scales instead of the norm: {', '.join(FORMATS)} (fp8_per_group:64).",
)
@click.option("-n", "--iters", type=click.IntRange(5), default=5000, help="Most timed calls per size.")
@click.option(
    "-w", "--warmup-iters", "--warmup", type=click.IntRange(0), default=5, help="Untimed calls before."
)
@click.option("-d", "--datatype", type=spellings.dtype(DTYPES), default="float32", help="Data type.")
@click.option("-o", "--op", "redop", type=click.Choice(REDOPS), default="sum", help="Reduction operation.")
@click.option("-r", "--root", type=click.IntRange(0), default=0, help="Root, of operations that have one.")
@click.option(
    "-c", "--check", type=click.IntRange(0), default=1, help="Count wrong results, once per size; 0: do not."
)
@click.option(
    "-g",
    "--ranks",
    "--ngpus",
    type=click.IntRange(1),
    multiple=True,
    default=[2],
    help="World size; repeatable.",
)
@click.option(
    "-G",
    "--cudagraph",
    type=click.IntRange(0),
    help="Calls in a graph that is replayed; 0: eager calls.  [default: 20 on GPUs, 0 on the CPU]",
    show_default=False,
)
@click.option(
    "--compare",
    help=f"Contestants besides hipcomm, separated by commas. Collectives:  {all_contestants('all_reduce')},"
    f" {', '.join(GROUPS)}.  {FUSED}: {all_contestants(FUSED)}, algorithms; default: all.",
)
@click.option("--mode", type=click.Choice(list(MODES)), default="both", help="Which use of the buffers.")
@click.option("--budget", type=float, default=0.4, help="Seconds per contestant and size; fewer calls then.")
@click.option("-T", "--timeout", type=float, default=600.0, help="Seconds after which a job is ended.")
@platform_option
@click.option(
    "--output", type=click.Path(path_type=Path), help="Write OUTPUT.json, OUTPUT.md and OUTPUT.csv."
)
@click.option(
    "--plot", type=click.Path(path_type=Path), callback=_plot, help="Draw into a .png or .svg file."
)
@click.pass_context
def main(
    context: click.Context,
    *,
    op: str,
    minbytes: int,
    maxbytes: int,
    stepfactor: int,
    stepbytes: int | None,
    shape: tuple[tuple[int, ...], ...],
    dim: int,
    hidden: tuple[int, ...],
    tokens: tuple[int, ...],
    norm: str,
    quantised: str | None,
    iters: int,
    warmup_iters: int,
    datatype: str,
    redop: str,
    root: int,
    check: int,
    ranks: tuple[int, ...],
    cudagraph: int | None,
    compare: str | None,
    mode: str,
    budget: float,
    timeout: float,
    platform: str | None,
    output: Path | None,
    plot: Path | None,
) -> None:
    """Time a collective operation over a range of sizes, alone or next to other libraries.

    "fused" is the all-reduce, the residual and the norm in one call, over rows (--hidden, --tokens).
    Flags and names mean what they mean in nccl-tests; -g is the number of ranks, which this command starts
    itself unless a launcher (hipcomm-run, mpirun) has started it already.
    On GPUs calls are captured into graphs, which are replayed and timed by the device's clock (-G 0: eager
    calls); on the CPU platform every call is timed by itself. Times are the maximum over ranks of the median.
    The exit code is 1 if a result was wrong or a job failed.
    """
    if platform is not None:
        os.environ["HIPCOMM_PLATFORM"] = platform
    given = [name for name in context.params if context.get_parameter_source(name) is _COMMAND_LINE]
    refuse_what_does_not_apply(op, given)
    if root >= min(ranks):
        raise click.UsageError(f"there is no rank {root} in a world of {min(ranks)}.")
    fused = op == FUSED
    if fused:
        subjects = rows(hidden, tokens, datatype)
    elif shape:
        subjects = arrays(op, shape, dim, datatype, ranks)
    else:
        subjects = messages(op, minbytes, maxbytes, stepfactor, stepbytes)
    options = Options(
        op=op,
        dtype=datatype,
        redop="sum" if fused else redop if OPS[op].reduces else "none",
        sizes=[subject.size for subject in subjects],
        shapes=[subject.shape for subject in subjects if subject.shape],
        norm=norm if fused else "",
        quantised=quantised or "",
        root=root,
        dim=dim,
        iterations=iters,
        warmup=warmup_iters,
        budget=budget,
        check=check > 0,
        contestants=contestants(op, compare),
        modes=modes(op, mode),
        graph=cudagraph,
        progress=sys.stdout.isatty() and not under_launcher(),
    )
    started = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    report = Report(describe(), shlex.join(["hipcomm-bench", *sys.argv[1:]]), started, options, jobs=[])
    if not under_launcher():
        _echo_machine(report)
    for job in _jobs(options, ranks, timeout):
        report.jobs.append(job)
        _echo_job(job, options)
    if not report.jobs:  # a rank other than 0
        return
    if under_launcher():
        _echo_machine(report)
    for line in closing_lines(report.jobs):
        click.echo(line)
    if output is not None:
        for file in write(report, output):
            click.echo(f"wrote {file}")
    if plot is not None:
        draw(report, plot)
        click.echo(f"wrote {plot}")
    failures = [job.failure for job in report.jobs if job.failure]
    if failures:
        raise click.ClickException("; ".join(failures))
    wrong = sum(job.wrong() for job in report.jobs)
    if wrong:
        raise click.ClickException(f"{wrong} elements were wrong")


def _echo_machine(report: Report) -> None:
    for name, value in report.machine.items():
        click.echo(f"# {name}: {value}")


def _jobs(options: Options, ranks: tuple[int, ...], timeout: float) -> Iterator[Job]:
    """Run a job per world size, or take part in the one that a launcher has started; yield the results."""
    if under_launcher():
        kept: list[Job] = []
        run(options, click.echo, kept.append)
        if kept:
            kept[-1].launcher = "the launcher under which hipcomm-bench was called"
            yield kept[-1]
        return
    divided = divide(options)
    for world_size in ranks:
        for launcher, part in divided:
            click.echo(f"# {' '.join(options.title)}, {world_size} ranks")
            try:
                yield run_job(part, world_size, timeout, launcher)
            except JobFailed as error:
                raise click.ClickException(str(error)) from error


def _echo_job(job: Job, options: Options) -> None:
    """Print what the table of one job needs to be understood, and the contestants side by side."""
    for line in (job.aggregation, *job.unsupported, *job.notes):
        click.echo(f"# {line}")
    if len(job.versions) < 2:
        return
    first = options.contestants[0]
    for in_place in job.modes():
        click.echo(f"\n{job.ranks} ranks, {mode_name(in_place)}; a ratio above 1: {first} is faster")
        click.echo(align(comparison(job, options, in_place)))
        if job.has_host_times():
            click.echo("\nwhat an eager call costs the calling thread")
            click.echo(align(comparison(job, options, in_place, host=True)))
    click.echo()
