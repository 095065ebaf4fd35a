"""close(), while other threads are at work on the communicator."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

import numpy as np
import pytest
from harness import PLATFORM, worlds

import hipcomm
from hipcomm.core import ffi, lib
from hipcomm.join import session as session_module

some_worlds = pytest.mark.parametrize("world", worlds(2))


def still_works(comm):
    total = comm.empty(100)
    total.from_host(np.full(100, comm.rank + 1, np.float32))
    comm.all_reduce(total)
    assert (total.to_host() == sum(range(comm.world_size + 1))).all()


def close_during_a_call(comm, rng, peer_comes):
    """Rank 0 closes during its call, for which rank 1 comes late, or never."""
    part = comm.split(0)
    result = []

    def call():
        part.device.use()
        try:
            part.barrier()
            result.append(None)
        except hipcomm.Error as error:
            result.append(error)

    if comm.rank == 0:
        thread = threading.Thread(target=call)
        thread.start()
        deadline, before = time.monotonic() + 1, time.process_time()
        while time.monotonic() < deadline and time.process_time() < before + 0.1:
            time.sleep(0.001)  # a kernel that waits spins, on the CPU
        part.close()
        thread.join(60)
    else:
        time.sleep(1 if peer_comes else 0)
        if peer_comes:
            call()
        part.close()
    with pytest.raises(hipcomm.InvalidArgument, match="the communicator is closed"):
        part.barrier()
    still_works(comm)
    return result


@some_worlds
@pytest.mark.parametrize("peer_comes", [True, False])
def test_close_during_a_call_of_another_thread(own_ranks, world, peer_comes):
    """The call was left without its memory: SIGSEGV."""
    results = own_ranks.world(world, timeout=3).run(close_during_a_call, peer_comes)
    if peer_comes:
        assert results == [[None], [None]]
    else:
        (error,), none = results
        assert none == []
        if PLATFORM != "cpu":  # there the call is over once its kernel is enqueued
            return
        assert isinstance(error, hipcomm.Error) and not isinstance(error, hipcomm.InvalidArgument)


def close_during_a_call_that_does_not_end(comm, rng):
    part = comm.split(0)
    under_way = part._comm  # as the arguments of a call hold it
    part._forget("the communicator is closed")
    with pytest.raises(hipcomm.RendezvousError, match="a call in another thread is under way"):
        part._session.close(1.0)
    assert lib.hipcommCommGetAsyncError(under_way) == lib.hipcommPeerDied  # the memory is still there


def test_a_call_that_does_not_end_fails_the_communicator(own_ranks):
    world = own_ranks.world(1, timeout=1)
    world.run(close_during_a_call_that_does_not_end)
    world.abandon()


class InterruptedWait(threading.Event):
    """Ctrl-C comes while the main thread waits."""

    def wait(self, timeout=None):
        main = threading.main_thread().ident
        threading.Timer(0.1, signal.pthread_kill, [main, signal.SIGINT]).start()
        return super().wait(timeout)


def interrupted_close(comm, rng):
    part = comm.split(0)
    part._session._idle = InterruptedWait()
    under_way = part._comm
    with pytest.raises(KeyboardInterrupt):
        part.close()
    return part._session.comm == under_way


def test_an_interrupted_close_destroys_nothing(own_ranks):
    assert own_ranks.world(1, timeout=20).run(interrupted_close) == [True]


class Watched:
    """The core, but what is done with communicators is noted; aborting destroyed ones is left out."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(lib, name)

    def hipcommCommAbort(self, comm: Any, *arguments: Any) -> int:
        self.log.append("nothing" if comm == ffi.NULL else "abort")
        return 0 if "destroy" in self.log else lib.hipcommCommAbort(comm, *arguments)

    def hipcommCommDestroy(self, comm: Any) -> int:
        self.log.append("destroy")
        return lib.hipcommCommDestroy(comm)


class SlowReason(str):
    """A reason that takes its time on the way to the core."""

    under_way = threading.Event()

    def encode(self, *arguments: Any, **options: Any) -> bytes:
        self.under_way.set()
        time.sleep(0.5)
        return super().encode(*arguments, **options)


def failure_during_close(comm, rng):
    """The client's thread learns of a lost peer just before the core's communicator is destroyed."""
    part = comm.split(0)
    session = part._session
    thread = threading.Thread(
        target=session._on_failure, args=(None, SlowReason("lost"), lib.hipcommPeerDied)
    )
    close_peers = session.registrations.close_peers

    def lose_a_peer():
        close_peers()
        thread.start()
        assert SlowReason.under_way.wait(60)

    session.registrations.close_peers = lose_a_peer
    session_module.lib = watched = Watched()
    try:
        part.close()
        thread.join(60)
    finally:
        session_module.lib = lib
    return watched.log


def test_a_failure_during_close_finds_no_destroyed_communicator(own_ranks):
    (log,) = own_ranks.world(1).run(failure_during_close)
    assert log == ["abort", "destroy"]
