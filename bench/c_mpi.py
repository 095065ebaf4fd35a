"""hipcomm's C API beside the C API of MPIs, without Python: ``python -m hipcomm_bench.c_mpi``.

For each mpirun, the one in PATH and those that hipcomm_bench.mpi_venvs has installed, it compiles
contestants/all_reduce_mpi.c with the mpicc beside it and runs that under it: the all-reduce of float32, out
of place, by hipcomm (on plain and on symmetric memory) and by MPI in the same processes. The ratio is MPI's
time over that of hipcomm on plain memory.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import click

import hipcomm
from hipcomm_bench import mpirun, spellings
from hipcomm_bench.contestants.base import Launcher
from hipcomm_bench.contestants.mpi import VENVS, IntelMpi, Mpi, Mpich, OpenMpi, OpenMpi4, OpenMpi5, flavour
from hipcomm_bench.sizes import format_size

_SOURCE = Path(__file__).parent / "contestants" / "all_reduce_mpi.c"
_KINDS: tuple[type[Mpi], ...] = (OpenMpi, OpenMpi4, OpenMpi5, Mpich, IntelMpi)


def launchers(names: tuple[str, ...]) -> dict[str, Launcher]:
    """Return what can be measured here: each has an mpirun of its kind, and an mpicc beside it."""
    found = {}
    for kind in _KINDS:
        launcher = kind.launcher()
        compiler = Path(launcher.mpirun).with_name("mpicc")
        if (not names or kind.name in names) and compiler.exists() and flavour(launcher.mpirun) == kind.kind:
            found[kind.name] = launcher
    return found


def measure(launcher: Launcher, ranks: int, arguments: list[str], timeout: float) -> list[str]:
    """Compile and run the program; return the lines that it printed.

    Raises:
        click.ClickException: the one or the other failed.
    """
    include, library = hipcomm.get_include(), Path(hipcomm.get_library()).parent
    line, environment, _ = mpirun.command(launcher, ranks)
    line = line[: line.index(launcher.python)]  # the program takes Python's place
    root = str(Path(launcher.mpirun).parents[1])  # which Intel's mpicc has to be told
    environment = {**os.environ, "HIPCOMM_PLATFORM": "cpu", "I_MPI_ROOT": root, **environment}
    with tempfile.TemporaryDirectory() as directory:
        program = f"{directory}/all_reduce_mpi"
        flags = ["-std=c11", "-O2", "-D_GNU_SOURCE", f"-I{include}"]
        links = [f"-L{library}", f"-Wl,-rpath,{library}", "-lhipcomm"]
        mpicc = str(Path(launcher.mpirun).with_name("mpicc"))
        for command in ([mpicc, *flags, str(_SOURCE), *links, "-o", program], [*line, program, *arguments]):
            try:
                done = subprocess.run(
                    command, env=environment, capture_output=True, text=True, timeout=timeout, check=False
                )
            except subprocess.TimeoutExpired as error:
                raise click.ClickException(f"{command[0]} took more than {timeout:g} s") from error
            if done.returncode != 0:
                raise click.ClickException(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    return done.stdout.splitlines()


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("names", nargs=-1, type=click.Choice([kind.name for kind in _KINDS]))
@click.option("-g", "--ranks", type=click.IntRange(2), multiple=True, default=[2, 4], help="Repeatable.")
@click.option("-b", "--minbytes", type=spellings.Size(), default="8", help="Smallest message.")
@click.option("-e", "--maxbytes", type=spellings.Size(), default="64M", help="Largest message.")
@click.option("-f", "--stepfactor", type=click.IntRange(2), default=2, help="Factor between sizes.")
@click.option("--budget", type=float, default=0.5, help="Seconds a size.")
@click.option("-T", "--timeout", type=float, default=600.0, help="Seconds after which a run is ended.")
def main(
    names: tuple[str, ...],
    *,
    ranks: tuple[int, ...],
    minbytes: int,
    maxbytes: int,
    stepfactor: int,
    budget: float,
    timeout: float,
) -> None:
    """Time all-reduce by hipcomm's C API and by that of these MPIs, or of all that are here."""
    found = launchers(names)
    if not found:
        raise click.UsageError(
            f"no MPI with an mpicc here, neither in PATH nor in {VENVS}: python -m hipcomm_bench.mpi_venvs"
        )
    bad = 0
    for world in ranks:
        for launcher in found.values():
            arguments = [str(minbytes), str(maxbytes), str(stepfactor), f"{budget:g}"]
            version, *lines = measure(launcher, world, arguments, timeout)
            click.echo(f"\n{world} ranks, {version}, µs\n")
            click.echo("| bytes | hipcomm | symmetric | MPI | ratio |\n|---|---|---|---|---|")
            for line in lines:
                nbytes, plain, symmetric, mpi, wrong = map(int, line.split())
                figures = " | ".join(f"{time / 1000:.2f}" for time in (plain, symmetric, mpi))
                click.echo(f"| {format_size(nbytes)} | {figures} | {mpi / plain:.2f} |")
                bad += wrong
    if bad:
        raise click.ClickException(f"{bad} elements were wrong")


if __name__ == "__main__":
    main()
