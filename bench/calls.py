"""What hipcomm itself costs: ``python -m hipcomm_bench.calls``, on the CPU platform.

A call over its launch, from C and from Python: the HIP library that the communicator calls is one whose
launches do nothing (contestants/calls.c). The import, over that of an empty program. The start of 4 ranks:
from hipcomm-run's start to the end of ranks that make a communicator and nothing else, in Python and in C.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

import hipcomm

_SOURCE = Path(__file__).parent / "contestants" / "calls.c"
_RUNS, _CALLS = 31, 2000
_COUNT = 256  # elements of float32
_IN_C = """
#include <hipcomm.h>
int main(void) {
    hipcommComm_t comm;
    return hipcommInit(&comm) != hipcommSuccess || hipcommDestroy(comm) != hipcommSuccess;
}
"""


def _compile(source: Path, target: Path, *flags: str) -> None:
    """Compile against hipcomm."""
    library = Path(hipcomm.get_library())
    command = [os.environ.get("CC", "cc"), "-O2", *flags, f"-I{hipcomm.get_include()}", str(source)]
    command += [str(library), f"-Wl,-rpath,{library.parent}", "-o", str(target)]
    subprocess.run(command, check=True, timeout=60)


def _microseconds(call: Callable[[], object]) -> float:
    """Return the best mean of some runs: what else the machine does can only add."""
    means = []
    for _ in range(_RUNS):
        began = time.perf_counter()
        for _ in range(_CALLS):
            call()
        means.append((time.perf_counter() - began) / _CALLS)
    return 1e6 * min(means)


def measure_calls(directory: Path) -> dict[str, float]:
    """Return the microseconds of calls, in a world of two whose other rank does nothing."""
    import numpy as np

    with hipcomm.init() as comm:
        session = comm._session
        real = Path(session.platform.library)
        shim = directory / f"calls{comm.rank}.so"
        flags = ["-shared", "-fPIC", "-Wl,--no-as-needed", str(real), f"-Wl,-rpath,{real.parent}"]
        _compile(_SOURCE, shim, *flags)
        session.platform = session.platform._replace(library=str(shim))
        part = comm.split(0)
        session.platform = session.platform._replace(library=str(real))
        assert part is not None
        array = np.zeros(_COUNT, np.float32)
        symmetric = part.empty(_COUNT, "float32")
        loop = ctypes.CDLL(str(shim)).nanoseconds_of_a_call
        loop.restype = ctypes.c_double
        loop.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
        address = array.ctypes.data

        def nothing() -> None:
            pass

        def with_pointer() -> None:
            part.all_reduce(address, count=_COUNT, dtype="float32")

        def with_array() -> None:
            part.all_reduce(array)

        def with_symmetric() -> None:
            part.all_reduce(symmetric)

        figures = {}
        if comm.rank == 0:
            in_c = [loop(part.handle, address, _COUNT, _CALLS) for _ in range(_RUNS)]
            assert min(in_c) > 0
            empty = _microseconds(nothing)
            figures = {
                "a call from C": min(in_c) / 1e3,
                "a call from Python, of a pointer": _microseconds(with_pointer) - empty,
                "a call from Python, of a NumPy array": _microseconds(with_array) - empty,
                "a call from Python, of a symmetric array": _microseconds(with_symmetric) - empty,
            }
        comm.barrier()
        part.close()
    return figures


def _seconds(runs: int, *commands: Sequence[str]) -> list[float]:
    """Return the median times that programs take, which take turns."""
    taken: list[list[float]] = [[] for _ in commands]
    for _ in range(runs):
        for command, times in zip(commands, taken, strict=True):
            began = time.perf_counter()
            subprocess.run(command, check=True, timeout=60, stdin=subprocess.DEVNULL)
            times.append(time.perf_counter() - began)
    return [statistics.median(times) for times in taken]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--directory", type=click.Path(path_type=Path), hidden=True)
def main(directory: Path | None) -> None:
    """Show what a call, the import and the start of 4 ranks cost."""
    if directory is not None:  # one of the ranks
        for name, figure in measure_calls(directory).items():
            click.echo(f"{name}: {figure:.2f} µs over the launch")
        return
    os.environ["HIPCOMM_PLATFORM"] = "cpu"
    run = [sys.executable, "-m", "hipcomm_launcher", "--no-tag"]
    with tempfile.TemporaryDirectory() as made:
        command = [*run, "-n", "2", sys.executable, "-m", "hipcomm_bench.calls", "--directory", made]
        subprocess.run(command, check=True, timeout=120)
        program, source = Path(made, "start"), Path(made, "start.c")
        source.write_text(_IN_C, encoding="utf-8")
        _compile(source, program)
        python = [sys.executable, "-c"]
        empty, imported = _seconds(21, [*python, "pass"], [*python, "import hipcomm"])
        click.echo(
            f"import hipcomm: {1e3 * (imported - empty):.0f} ms; the first communicator loads the rest"
        )
        four = [*run, "-n", "4"]
        code = "import hipcomm; hipcomm.init().close()"
        empty, in_python, in_c = _seconds(
            5, [*four, *python, "pass"], [*four, *python, code], [*four, str(program)]
        )
        click.echo(f"start of 4 ranks: in Python {in_python:.2f} s, in C {in_c:.2f} s")
        click.echo(f"of which hipcomm-run with 4 empty Python programs: {empty:.2f} s")


if __name__ == "__main__":
    main()
