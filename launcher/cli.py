"""The command line of hipcomm-run."""

from __future__ import annotations

import math
import os
import shlex
from pathlib import Path
from typing import Any, NoReturn

import click

from hipcomm.environment import MAX_SECONDS, Settings
from hipcomm.errors import Error, InvalidArgument

from .auto import number_of_ranks
from .cores import bind_by_default, shares, usable
from .job import run_job
from .nodes import Nodes
from .options import SETTINGS, platform_option, version_option
from .spec import (
    RESERVED,
    CommandError,
    Endpoints,
    Options,
    parse_devices,
    rank_environment,
    resolve_command,
)


class _Seconds(click.FloatRange):
    """Seconds that a clock can count: FloatRange takes nan, and to poll(2) inf is an overflow."""

    def __init__(self, min_open: bool) -> None:
        super().__init__(0, MAX_SECONDS, min_open=min_open)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value} is no number of seconds.", param, ctx)
        return seconds


def _open_standard_descriptors() -> None:
    """Open /dev/null where descriptor 0, 1 or 2 is closed.

    Otherwise our own sockets get the number: after ``>&-`` the ranks' output waited for the one on which
    the server listens, and the job never ended.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free


def _parse_env(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    env = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{value!r} is not of the form NAME=VALUE", param=parameter)
        if name in RESERVED:
            raise click.BadParameter(f"{name} is set by hipcomm-run itself", param=parameter)
        env[name] = text
    return env


def _parse_devices(_: click.Context, parameter: click.Parameter, value: str | None) -> list[str]:
    try:
        return parse_devices(value) if value else []
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from error


class _Ranks(click.IntRange):
    """A number of ranks, or 0 for ``auto``."""

    name = "number|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number: int = 0 if value == "auto" else super().convert(value, param, ctx)
        return number


@click.command(context_settings={**SETTINGS, "allow_interspersed_args": False})
@version_option("hipcomm-run")
@click.option(
    "-n",
    "-np",
    "--nproc-per-node",
    "nproc",
    type=_Ranks(1, 1024),
    metavar="N|auto",
    help="Number of ranks; auto: as many as there are devices, or processors on the CPU platform."
    " [default: as many as --devices names, else 1]",
)
@click.option("-m", "--module", is_flag=True, help="PROGRAM is a Python module.")
@platform_option
@click.option(
    "--devices",
    callback=_parse_devices,
    metavar="LIST",
    help="One device per rank: ordinals, ranges, PCI bus ids or UUIDs, as in 0,2-3.",
)
@click.option(
    "--log-dir", type=click.Path(file_okay=False, path_type=Path), help="Write rank3.out and rank3.err there."
)
@click.option("--tee", is_flag=True, help="With --log-dir: show the output as well.")
@click.option("--tag/--no-tag", default=True, show_default=True, help="Begin every line with its rank.")
@click.option(
    "--timeout",
    type=_Seconds(min_open=True),
    metavar="SECONDS",
    help="Stop a job that takes longer, with exit code 124.",
)
@click.option(
    "--unwind",
    type=_Seconds(min_open=False),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Time for the others to raise, save and end by themselves after a rank has failed.",
)
@click.option(
    "--grace",
    type=_Seconds(min_open=False),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between SIGTERM and SIGKILL.",
)
@click.option(
    "--max-restarts",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="K",
    help="Start the whole job again after a rank has failed, K times at most.",
)
@click.option(
    "--bind/--no-bind",
    default=None,
    help="Bind every rank to its share of the processors. [default: on the CPU platform, with no more ranks"
    " than processors]",
)
@click.option(
    "--nnodes", type=click.IntRange(1, 1024), default=1, help="Number of nodes, each with as many ranks."
)
@click.option("--node-rank", type=click.IntRange(0), help="Which of them this is.")
@click.option("--master-addr", metavar="ADDRESS", help="The address of node 0.")
@click.option(
    "--master-port", type=click.IntRange(1, 65534), default=29500, show_default=True, help="A port of node 0."
)
@click.option("--env", multiple=True, callback=_parse_env, metavar="NAME=VALUE", help="Set for all ranks.")
@click.option("--dry-run", is_flag=True, help="Print the commands and their environment, run nothing.")
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED, metavar="PROGRAM [ARGS]...")
def main(
    nproc: int | None,
    module: bool,
    platform: str | None,
    devices: list[str],
    log_dir: Path | None,
    tee: bool,
    tag: bool,
    timeout: float | None,
    unwind: float,
    grace: float,
    max_restarts: int,
    bind: bool | None,
    nnodes: int,
    node_rank: int | None,
    master_addr: str | None,
    master_port: int,
    env: dict[str, str],
    dry_run: bool,
    program: tuple[str, ...],
) -> None:
    """Start PROGRAM as the ranks of one job on this machine, or as those of one node of several.

    A .py file and a module (-m) run with this Python, anything else is looked for in PATH. The first
    rank that fails ends the job; its exit code is the job's (128 + n for signal n). 124: --timeout.
    130: Ctrl-C, a second one kills at once. 141: the reader of the output has gone. 1: it could not be
    written. Ctrl-Z stops all ranks until the job goes on. SIGUSR1 (kill -USR1, hipcomm-doctor --job) shows
    what each rank is doing.

    Rank 0 reads standard input, that of the others is empty. OMP_NUM_THREADS is each rank's share of the
    processors, unless it is set.
    """
    _open_standard_descriptors()
    if tee and log_dir is None:
        raise click.UsageError("--tee needs --log-dir.")
    # What hipcomm would refuse in every rank is better refused once.
    inherited = {name: value for name, value in os.environ.items() if name not in RESERVED}
    try:
        settings = Settings.read({**inherited, **env})
        command = resolve_command(program, module, env.get("PATH", os.environ.get("PATH")))
        if nproc == 0:
            nproc = len(devices) or number_of_ranks(
                {**inherited, **env} | ({"HIPCOMM_PLATFORM": platform} if platform else {})
            )
    except InvalidArgument as error:
        raise click.UsageError(str(error)) from error
    except CommandError as error:
        _fail(str(error), error.exit_code)
    nproc = nproc or len(devices) or 1
    if devices and len(devices) < nproc:
        raise click.UsageError(f"--devices names {len(devices)} devices for {nproc} ranks.")
    nodes = Nodes.read(nnodes, node_rank, master_addr, master_port, settings, platform or settings.platform)
    if nodes.number > 1 and max_restarts:
        raise click.UsageError("--max-restarts restarts the ranks of one node only: not with --nnodes.")
    options = Options(
        nproc=nproc,
        nodes=nodes,
        cpus=_cpus(bind, nproc, platform or settings.platform),
        env=env,
        platform=platform,
        devices=devices,
        tag=tag,
        log_dir=log_dir,
        tee=tee,
        timeout=timeout,
        unwind=unwind,
        grace=grace,
        join_timeout=settings.join_timeout,
        max_restarts=max_restarts,
    )
    if dry_run:
        _print_commands(command, options)
        return
    try:
        if log_dir is not None:
            log_dir.mkdir(parents=True, exist_ok=True)
        exit_code = run_job(command, options)
    except (Error, OSError) as error:
        _fail(str(error), 1)
    raise SystemExit(exit_code)


def _cpus(bind: bool | None, nproc: int, platform: str) -> list[frozenset[int]]:
    """Return the processors that ranks are bound to, by rank; empty: they are not."""
    if not (bind_by_default(platform) if bind is None else bind) or (nproc == 1 and not bind):
        return []
    cpus = usable()
    bound = shares(cpus, nproc)
    if bind and not bound:
        raise click.UsageError(f"--bind: {nproc} ranks, but only {len(cpus)} processors.")
    return bound


def _fail(message: str, exit_code: int) -> NoReturn:
    click.echo(f"hipcomm-run: {message}", err=True)
    raise SystemExit(exit_code)


def _print_commands(command: list[str], options: Options) -> None:
    """Print what would be run, as a shell takes it; what is only known later stands in <>."""
    shown = Endpoints("127.0.0.1:<port>", "<hidden>", "<random>", 0)
    for rank in range(options.nproc):
        env = rank_environment(rank, options, shown) | {"MASTER_PORT": "<free port>"}
        assignments = [f"{name}={shlex.quote(value)}" for name, value in env.items()]
        click.echo(" ".join([*assignments, shlex.join(command)]))


if __name__ == "__main__":
    main()
