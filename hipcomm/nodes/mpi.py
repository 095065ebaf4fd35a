"""The carrier ``mpi``: bytes through MPI's messages between two ranks, by mpi4py.

MPI's own waits have no bounds, so none is used: every request is asked whether it is done, again and again,
until it is, or the job fails, or the time is over.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from hipcomm.errors import InvalidArgument, PlatformError, RendezvousError
from hipcomm.join.session import leave_all
from hipcomm.nodes.carrier import COLLECTIVES, Transfer
from hipcomm.nodes.failures import Failures
from hipcomm.nodes.model import Link
from hipcomm.rendezvous.ranks import Ranks
from hipcomm.waiting import pause, wait

_PIECE = 1 << 30  # bytes; MPI counts them with an int
_EAGER_LOOKS = 2000  # looks at the requests, each with a yield, before they are spaced out
_LOOKS_PER_CHECK = 64  # looks at the requests for each look at the clock
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


class MpiCarrier:
    """Carries the bytes of one communicator; see :class:`~hipcomm.nodes.carrier.Carrier`."""

    name = "mpi"
    # Open MPI over TCP on virtual network cards (docs/nodes.md); a fast network has less of the one and more
    # of the other, and nearly the same product, which is all that counts.
    link = Link(latency=60e-6, bandwidth=1.2e9)

    def __init__(self, ranks: Ranks, context: int, failures: Failures) -> None:
        """See :func:`hipcomm.nodes.carrier.make`."""
        problem = ""
        try:
            self._runtime = runtime(time.monotonic() + failures.timeout)
        except (PlatformError, RendezvousError) as error:
            problem = str(error)
        ranks.agree("carrier", problem)
        self._numbers = ranks.members  # MPI's rank of each: that of the job
        self._tags = (2 * context, 2 * context + 1)
        self._failures = failures
        self._kept: list[Any] = []

    def exchange(
        self, sends: Sequence[Transfer], receives: Sequence[Transfer], stream: Any, channel: int = COLLECTIVES
    ) -> None:
        """As the interface says; *stream* is that of a CPU, on which everything has happened on return."""
        receiving: list[Any] = []
        sending: list[Any] = []
        try:
            peers = self._begin(self._runtime.comm.Irecv, receives, channel, receiving)
            peers += self._begin(self._runtime.comm.Isend, sends, channel, sending)
            self._complete(receiving + sending, peers)
        except BaseException as error:
            self._runtime.failed()
            for request in receiving:
                request.Cancel()
            self._kept += sending  # MPI may still read what they send
            if isinstance(error, self._runtime.MPI.Exception):
                self._failures.explain(error)
            raise

    def _begin(
        self,
        start: Callable[..., Any],
        transfers: Sequence[Transfer],
        channel: int,
        requests: list[Any],
    ) -> list[int]:
        """Start transfers, and return the peer of each request."""
        MPI, peers = self._runtime.MPI, []
        for peer, address, nbytes in transfers:
            for begin in range(0, nbytes, _PIECE):
                memory = MPI.buffer.fromaddress(address + begin, min(_PIECE, nbytes - begin))
                requests.append(start([memory, MPI.BYTE], self._numbers[peer], self._tags[channel]))
                peers.append(peer)
        return peers

    def _complete(self, requests: list[Any], peers: list[int]) -> None:
        test_all = self._runtime.MPI.Request.Testall
        deadline = time.monotonic() + self._failures.timeout

        def pending() -> list[int]:
            return [peer for request, peer in zip(requests, peers, strict=True) if not request.Get_status()]

        looks = 0
        while not test_all(requests):
            looks += 1
            if looks < _EAGER_LOOKS:
                os.sched_yield()
                if looks % _LOOKS_PER_CHECK:
                    continue
            else:
                pause()
            self._failures.check_wait(pending, deadline)

    def abort(self) -> None:
        """Nothing to do: every wait asks for failures."""
        self._runtime.failed()

    def close(self) -> None:
        """Nothing to do: MPI stays."""
