"""Virtual environments with one MPI each, from PyPI, for hipcomm-bench to compare with.

``python -m hipcomm_bench.mpi_venvs`` makes openmpi4, openmpi5, mpich and intel-mpi in build/mpi of the
current directory. Everything but MPI and mpi4py they take from the environment of this Python.
"""

from __future__ import annotations

import subprocess
import sysconfig
import venv
from pathlib import Path

import click

from hipcomm_bench.contestants.mpi import VENVS, IntelMpi, Mpi, Mpich, OpenMpi4, OpenMpi5

_KINDS: dict[str, type[Mpi]] = {kind.name: kind for kind in (OpenMpi4, OpenMpi5, Mpich, IntelMpi)}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, type=click.Choice(list(_KINDS)))
def main(names: tuple[str, ...]) -> None:
    """Make the environments of these MPIs, or of all of them."""
    for name in names or _KINDS:
        place = (VENVS / name).absolute()
        click.echo(f"{place}: {_KINDS[name].package} and mpi4py")
        venv.create(place, with_pip=True, clear=True)
        python = str(place / "bin" / "python")
        packages = [*_KINDS[name].package.split(), "mpi4py>=4.1"]
        subprocess.run(
            [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages], check=True
        )
        # behind its own packages, those of this Python, editable ones included
        ours = sysconfig.get_path("purelib")
        asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        theirs = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
        line = f"import site; site.addsitedir({ours!r})\n"
        Path(theirs, "of_hipcomm_bench.pth").write_text(line, encoding="utf-8")


if __name__ == "__main__":
    main()
