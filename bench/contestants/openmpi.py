"""The contestant Open MPI, through mpi4py. Its ranks are those that mpirun started."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, ClassVar

from hipcomm_bench.clock import Prepared
from hipcomm_bench.contestants.base import Contestant, Unsupported
from hipcomm_bench.data import Buffers
from hipcomm_bench.ops import Call
from hipcomm_bench.session import Session
from hipcomm_bench.world import under_mpirun


class OpenMpi(Contestant):
    """Open MPI's blocking collectives on NumPy buffers."""

    name: ClassVar[str] = "openmpi"
    platforms: ClassVar[tuple[str, ...]] = ("cpu",)
    by_mpirun: ClassVar[bool] = True

    @classmethod
    def why_missing(cls) -> str | None:
        """Return why Open MPI cannot run here, or None."""
        if shutil.which("mpirun") is None:
            return "mpirun is not installed (Debian: apt-get install openmpi-bin)"
        if find_spec("mpi4py") is None:
            return "the Python package mpi4py is not installed"
        return None

    def __init__(self, session: Session) -> None:
        if session.world.size > 1 and not under_mpirun():
            raise Unsupported("the ranks were not started by mpirun")
        self._mpi: Any = import_module("mpi4py.MPI")
        self._comm = self._mpi.COMM_WORLD.Dup()
        library = self._mpi.Get_library_version().split(",")[0]
        self.version = f"{library.removeprefix('Open MPI v')} (mpi4py {version('mpi4py')})"

    def prepare(self, call: Call, buffers: Buffers) -> Prepared:
        """Return this call."""
        return Prepared(self._call(call, buffers), capture=False)

    def _call(self, call: Call, buffers: Buffers) -> Callable[[], Any]:
        mpi, comm = self._mpi, self._comm
        reductions = {"sum": mpi.SUM, "max": mpi.MAX, "min": mpi.MIN, "prod": mpi.PROD}
        if call.dtype in ("float16", "bfloat16"):
            raise Unsupported(f"MPI has no {call.dtype}")
        if call.op.reduces and call.redop not in reductions:
            raise Unsupported(f"MPI has no {call.redop}")
        # Naming the MPI type here spares mpi4py from working it out in every call.
        kind = mpi._typedict[buffers.recv.array.dtype.char]
        recv: Any = [buffers.recv.array, kind]
        send: Any = mpi.IN_PLACE if call.in_place else [buffers.send.array, kind]
        if call.op.name == "all_reduce":
            return partial(comm.Allreduce, send, recv, reductions[call.redop])
        if call.op.name == "reduce_scatter":
            if call.in_place:
                raise Unsupported("MPI puts an in-place result at the start of the buffer")
            return partial(comm.Reduce_scatter_block, send, recv, reductions[call.redop])
        if call.op.name == "all_gather":
            return partial(comm.Allgather, send, recv)
        if call.op.name == "all_to_all":
            return partial(comm.Alltoall, send, recv)
        if not call.in_place:
            raise Unsupported("broadcast is in place")
        return partial(comm.Bcast, recv)

    def close(self) -> None:
        """Free the communicator."""
        self._comm.Free()
