"""The carrier ``mpi``: bytes through MPI's messages between two ranks, by mpi4py.

MPI's own waits have no bounds, so none is used: every request is asked whether it is done, again and again,
until it is, or the job fails, or the time is over. Even asking may never return: where a peer's connection
has closed, Open MPI 4 reports that to its daemon and waits for an answer, which does not come if mpirun is
about to end the job. So a thread of its own calls MPI, and the program's thread waits for it with bounds.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any

from hipcomm import _wire as wire
from hipcomm.errors import InvalidArgument, PlatformError, RendezvousError
from hipcomm.join.session import leave_all
from hipcomm.nodes.carrier import COLLECTIVES, Transfer
from hipcomm.nodes.failures import Failures
from hipcomm.nodes.model import Link
from hipcomm.rendezvous.ranks import Ranks
from hipcomm.waiting import pause, wait

_PIECE = 1 << 30  # bytes; MPI counts them with an int
_EAGER_LOOKS = 2000  # looks at the requests, each with a yield, before they are spaced out
_LOOKS_PER_STATUS = 64  # looks at the requests for each look at every single one
_SLICE = 0.01  # seconds between two looks for failures
_ABANDON_PATIENCE = 0.2  # seconds for MPI to let go of memory
_FINALIZE_PATIENCE = 10.0  # seconds


class Runtime:
    """MPI in this process, and a communicator of all its ranks for hipcomm alone.

    Attributes:
        MPI: mpi4py's module.
        comm: the communicator.
    """

    def __init__(self, deadline: float) -> None:
        """Initialise MPI, unless the program has, and make the communicator. Collective.

        Raises:
            PlatformError: mpi4py or its MPI library is missing.
            RendezvousError: the other ranks did not come before *deadline*.
        """
        self._is_broken = True
        try:
            import mpi4py

            if "mpi4py.MPI" not in sys.modules:  # else the program has MPI, and ends it
                mpi4py.rc.finalize = False
                atexit.register(self._finalize)
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            raise PlatformError(
                f"several nodes need mpi4py, built for the MPI that mpirun or srun belongs to: {error}"
            ) from error
        self.MPI = MPI
        self._jobs: SimpleQueue[_Job] | None = None
        if MPI.Query_thread() < MPI.THREAD_SERIALIZED:
            raise PlatformError("several nodes need an MPI of thread level MPI_THREAD_SERIALIZED at least")
        self.comm, request = MPI.COMM_WORLD.Idup()
        self.await_all([request], deadline)
        self._is_broken = False

    def await_all(self, requests: list[Any], deadline: float) -> None:
        """Wait for requests of the meeting. Raises RendezvousError after *deadline*."""
        while not self.MPI.Request.Testall(requests):
            if time.monotonic() >= deadline:
                self._is_broken = True
                raise RendezvousError(
                    f"rank {self.MPI.COMM_WORLD.rank} of {self.MPI.COMM_WORLD.size}: join: not all ranks "
                    "came to MPI in time; HIPCOMM_JOIN_TIMEOUT sets how long to wait"
                )
            pause()

    def submit(self, job: _Job) -> None:
        """Have the thread that calls MPI run it."""
        if self._jobs is None:
            self._jobs = SimpleQueue()
            threading.Thread(target=self._serve, args=(self._jobs,), name="hipcomm-mpi", daemon=True).start()
        self._jobs.put(job)

    def _serve(self, jobs: SimpleQueue[_Job]) -> None:
        kept: list[Any] = []
        while True:
            job = jobs.get()
            try:
                kept += job.run(self.MPI.Request.Testall)
            except BaseException as error:  # noqa: BLE001  raised by the thread that waits for the job
                job.error = error
            job.done.release()
            del job  # and with it the exchange's memory

    def failed(self) -> None:
        """Something has gone wrong: MPI cannot be finalised any more, for that waits for all ranks."""
        self._is_broken = True

    def _finalize(self) -> None:
        """At the end of the process. Finalising waits for all ranks, without a bound of its own."""
        leave_all()  # others may wait for word that this rank makes no more calls
        if self._is_broken or self.MPI.Is_finalized():
            return
        done = threading.Event()
        engine = ctypes.CDLL(self.MPI.__file__)  # mpi4py's Finalize() stops all other threads of this process

        def finalize() -> None:
            engine.MPI_Finalize()
            done.set()

        threading.Thread(target=finalize, name="hipcomm-finalize", daemon=True).start()
        wait(done, _FINALIZE_PATIENCE)


_runtime: Runtime | None = None


def runtime(deadline: float) -> Runtime:
    """MPI in this process; see :class:`Runtime`."""
    global _runtime  # noqa: PLW0603  there is one MPI per process
    if _runtime is None:
        _runtime = Runtime(deadline)
    return _runtime


def tell_all(rank: int, world_size: int, text: bytes, length: int, deadline: float) -> bytes:
    """Rank 0's text, on every rank: how ranks under mpirun or srun find the rendezvous server. Collective.

    Args:
        rank: this rank.
        world_size: the number of ranks.
        text: on rank 0, at most *length* bytes, none at the end of them zero.
        length: the same on all ranks.
        deadline: of time.monotonic().

    Raises:
        InvalidArgument: MPI's ranks are not the job's.
        PlatformError, RendezvousError: see :class:`Runtime`.
    """
    engine = runtime(deadline)
    if (engine.comm.rank, engine.comm.size) != (rank, world_size):
        raise InvalidArgument(
            f"rank {rank} of {world_size} is rank {engine.comm.rank} of {engine.comm.size} to MPI; "
            "over several nodes the numbers must be MPI's"
        )
    buffer = bytearray(text.ljust(length, b"\0"))
    byte = engine.MPI.BYTE
    if rank == 0:
        requests = [engine.comm.Isend([buffer, byte], peer, 0) for peer in range(1, world_size)]
    else:
        requests = [engine.comm.Irecv([buffer, byte], 0, 0)]
    engine.await_all(requests, deadline)
    return bytes(buffer).rstrip(b"\0")


class _Job:
    """One exchange, for the thread that calls MPI.

    Attributes:
        done: released when MPI is through with it.
        unfinished: the peers that it waits for, as of a moment ago.
        error: what MPI has raised.
        is_abandoned: set when nobody waits for it any more.
    """

    def __init__(self, start: Sequence[Callable[[], Any]], peers: Sequence[int], receives: int) -> None:
        """Of requests to be started, the peer of each, and how many at the beginning are receives."""
        self.done = threading.Lock()
        self.done.acquire()
        self.unfinished = list(peers)
        self.error: BaseException | None = None
        self.is_abandoned = False
        self._start = start
        self._peers = peers
        self._receives = receives

    def run(self, test_all: Callable[[list[Any]], bool]) -> list[Any]:
        """Start the requests and ask until all are done. Returns those that MPI is still at work on."""
        requests = [start() for start in self._start]
        looks = 0
        while not test_all(requests):
            looks += 1
            if looks < _EAGER_LOOKS:
                os.sched_yield()
                continue
            pause()
            if looks % _LOOKS_PER_STATUS == 0:
                self.unfinished = [
                    peer
                    for request, peer in zip(requests, self._peers, strict=True)
                    if not request.Get_status()
                ]
            if self.is_abandoned:
                for request in requests[: self._receives]:
                    request.Cancel()
                return requests[self._receives :]  # MPI may still read what they send
        return []


class MpiCarrier:
    """Carries the bytes of one communicator; see :class:`~hipcomm.nodes.carrier.Carrier`."""

    name = "mpi"
    is_stream_ordered = False
    # Until the world has measured its own (hipcomm/nodes/communicator.py): TCP's.
    link = Link(latency=60e-6, bandwidth=1.2e9)

    def __init__(self, ranks: Ranks, context: int, failures: Failures) -> None:
        """See :func:`hipcomm.nodes.choice.make`."""
        problem = ""
        try:
            self._runtime = runtime(time.monotonic() + failures.timeout)
        except (PlatformError, RendezvousError) as error:
            problem = str(error)
        ranks.agree(wire.TAG_CARRIER, problem)
        self._numbers = ranks.members  # MPI's rank of each: that of the job
        self._tags = (2 * context, 2 * context + 1)
        self._failures = failures

    def exchange(
        self, sends: Sequence[Transfer], receives: Sequence[Transfer], stream: Any, channel: int = COLLECTIVES
    ) -> None:
        """As the interface says; *stream* is that of a CPU, on which everything has happened on return."""
        comm, peers, start = self._runtime.comm, [], []
        for begin, transfers in ((comm.Irecv, receives), (comm.Isend, sends)):
            for peer, memory in self._pieces(transfers):
                peers.append(peer)
                start.append(partial(begin, memory, self._numbers[peer], self._tags[channel]))
        received = sum(-(-nbytes // _PIECE) for _, _, nbytes in receives)
        job = _Job(start, peers, received)
        deadline = time.monotonic() + self._failures.timeout
        try:
            self._runtime.submit(job)
            while not job.done.acquire(timeout=_SLICE):
                self._failures.check_wait(lambda: job.unfinished, deadline)
        except BaseException:
            self._runtime.failed()
            job.is_abandoned = True
            job.done.acquire(timeout=_ABANDON_PATIENCE)
            raise
        if job.error is not None:
            self._runtime.failed()
            if isinstance(job.error, self._runtime.MPI.Exception):
                self._failures.explain(job.error)
            raise job.error

    def _pieces(self, transfers: Sequence[Transfer]) -> Iterator[tuple[int, list[Any]]]:
        """Peer and memory of each message."""
        MPI = self._runtime.MPI
        for peer, address, nbytes in transfers:
            for begin in range(0, nbytes, _PIECE):
                memory = MPI.buffer.fromaddress(address + begin, min(_PIECE, nbytes - begin))
                yield peer, [memory, MPI.BYTE]

    def abort(self) -> None:
        """Nothing more to do: every wait asks for failures."""
        self._runtime.failed()

    def close(self) -> None:
        """Nothing to do: MPI stays."""
