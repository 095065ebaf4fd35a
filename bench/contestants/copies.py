"""The contestant copies: no library, but the floor under all of them on two cores of a CPU (``copies.c``)."""

from __future__ import annotations

import ctypes
import mmap
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import ClassVar

from hipcomm_bench.clock import Prepared
from hipcomm_bench.contestants.base import Contestant, Unsupported
from hipcomm_bench.data import Buffers
from hipcomm_bench.ops import Call
from hipcomm_bench.session import Session
from hipcomm_bench.world import first_problem

_SOURCE = Path(__file__).with_name("copies.c")
_COMPILE = ("cc", "-std=c11", "-O3", "-march=native", "-shared", "-fPIC")


class Copies(Contestant):
    """What an all-reduce of two processes through shared memory cannot do without: copies and additions."""

    name: ClassVar[str] = "copies"
    platforms: ClassVar[tuple[str, ...]] = ("cpu",)

    @classmethod
    def why_missing(cls) -> str | None:
        """Return why it cannot run here, or None."""
        return None if shutil.which("cc") is not None else "there is no C compiler to build it with"

    def __init__(self, session: Session) -> None:
        if session.world.size != 2:
            raise Unsupported("it is for two ranks")
        self._rank = session.world.rank
        self._library = self._compile(session)
        self._memory = self._share(session)
        self._shared = (ctypes.c_char * len(self._memory)).from_buffer(self._memory)
        self._step = 0
        self.version = "compiled here"

    def _compile(self, session: Session) -> ctypes.CDLL:
        """Each rank for itself. Collective."""
        problem = ""
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "copies.so"
            done = subprocess.run(
                [*_COMPILE, "-o", target, _SOURCE], capture_output=True, text=True, check=False, timeout=60
            )
            if done.returncode == 0:
                library = ctypes.CDLL(str(target))
            else:
                problem = f"compiling {_SOURCE.name} failed: {done.stderr.strip()}"
        if problem := first_problem(session.world, problem):
            raise Unsupported(problem)
        library.copies_shared_bytes.restype = ctypes.c_size_t
        library.copies_all_reduce.restype = ctypes.c_uint64
        library.copies_all_reduce.argtypes = [
            ctypes.c_void_p,
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_uint64,
        ]
        return library

    def _share(self, session: Session) -> mmap.mmap:
        """Memory that both ranks have mapped, without a name. Collective."""
        nbytes = self._library.copies_shared_bytes()
        with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
            file.truncate(nbytes)
            path = session.world.share(file.name)
            with Path(path).open("r+b") as first:
                memory = mmap.mmap(first.fileno(), nbytes)
            session.world.barrier()  # the name goes with the block
        return memory

    def prepare(self, call: Call, buffers: Buffers) -> Prepared:
        """Return this call."""
        if (call.op.name, call.redop, call.dtype) != ("all_reduce", "sum", "float32"):
            raise Unsupported("it adds float32 in all_reduce, and nothing else")
        send = buffers.recv if call.in_place else buffers.send
        recv, shared = buffers.recv, ctypes.addressof(self._shared)
        run = partial(self._all_reduce, shared, send.address, recv.address, recv.nbytes)
        return Prepared(run, capture=False)

    def _all_reduce(self, shared: int, send: int, recv: int, nbytes: int) -> None:
        self._step = self._library.copies_all_reduce(shared, self._rank, send, recv, nbytes, self._step)
        if self._step == 0:
            raise RuntimeError("copies: the other rank did not come")

    def close(self) -> None:
        """Unmap the memory."""
        del self._shared
        self._memory.close()
