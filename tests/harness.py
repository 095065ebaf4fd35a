"""Ranks for the tests: a pool of processes that form worlds, and device memory to play with.

A test sends functions to the ranks by name::

    def body(comm, rng, count):      # runs in every rank; rng differs between ranks
        ...

    ranks.world(4, algorithm="two_shot").run(body, 1000)

Starting a process takes longer than most tests, so processes are kept and form one world after the
other, of any size and with any settings. Whatever goes wrong in a rank, its traceback ends up
in the test's, and the pool starts afresh. Every wait is bounded.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import secrets
import subprocess
import sys
import time
import unittest.mock
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import checking
import rank_worker
from rank_worker import Call, Close, Open, Reply

from hipcomm import environment
from hipcomm.rendezvous import Server

PLATFORM = os.environ.get("HIPCOMM_PLATFORM", "cpu")
# "0,2": ranks of every world whose control plane is the C library's, to run tests with them
ALL_IN_C = tuple(int(rank) for rank in os.environ.get("HIPCOMM_TEST_C_RANKS", "").split(",") if rank)
SHARED = os.environ.get("HIPCOMM_SHARE_DEVICES", "0")  # 1: all worlds on however few devices there are
PATIENCE = 900.0 if PLATFORM == "amd-software" else 120.0  # seconds for a request; only for a failing one
ALGORITHMS = tuple(name for name in environment.ALGORITHMS if name not in ("auto", "direct"))
SEED = int(os.environ.get("HIPCOMM_TEST_SEED", "20260101"))

# Ranks are forked from a process that has imported what takes long, and has made no HIP call.
_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(
    ["rank_worker", "cases", "messages", "hypothesis", "pytest", "hipcomm.join.session", "rocm.bindings.hip"]
)


@functools.cache
def device_count(platform: str = PLATFORM) -> int:
    """How many devices a platform has; 0 where it has none or no library.

    Asked in a process of its own: this one stays free of HIP.
    """
    code = (
        "from hipcomm import PlatformError; from hipcomm.environment import Settings\n"
        "from hipcomm.hip import call; from hipcomm.hip.platform import choose\n"
        "try: choose(Settings.read()); print(int(call('hipGetDeviceCount')))\n"
        "except PlatformError: print(0)\n"
    )
    environment = {**os.environ, "HIPCOMM_PLATFORM": platform}
    asked = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment
    )
    assert asked.returncode == 0, asked.stderr
    return int(asked.stdout)


def worlds(*sizes: int) -> tuple[int, ...]:
    """Those of the world sizes for which the platform has devices."""
    devices = 16 if PLATFORM == "cpu" else device_count()
    most = 16 if SHARED == "1" and devices else devices
    assert most, f"HIPCOMM_PLATFORM={PLATFORM}, and there is no such device"
    return tuple(size for size in sizes if size <= most)


class RanksFailed(AssertionError):
    """What was sent to the ranks failed in some of them: their tracebacks."""


@functools.cache
def _start_fork_server() -> None:
    path = os.pathsep.join([str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    with unittest.mock.patch.dict(os.environ, PYTHONPATH=path):  # what it imports lies here
        forkserver.ensure_running()


class RankProcess:
    """One worker process and the pipe to it."""

    def __init__(self) -> None:
        _start_fork_server()
        self._pipe, theirs = _FORKED.Pipe()
        with theirs:
            self._process = _FORKED.Process(target=rank_worker.main, args=(theirs,), daemon=True)
            self._process.start()

    def send(self, request: Open | Call | Close) -> None:
        self._pipe.send(request)

    def receive(self, timeout: float) -> Reply:
        """The reply to the last request; its error also where the process died or did not answer."""
        try:
            if not self._pipe.poll(timeout):
                return Reply(error=f"no answer for {timeout:g} s")
            reply: Reply = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(PATIENCE)
            return Reply(error=f"the process ended, with exit code {self._process.exitcode}")
        return reply

    def signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def cpu_seconds(self) -> float:
        """Processor time that it has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """Kill the process, whatever it does."""
        self._pipe.close()
        self._process.kill()
        self._process.join(PATIENCE)


class World:
    """The ranks of one communicator. Made by :meth:`RankPool.world`."""

    def __init__(
        self,
        processes: list[RankProcess],
        settings: dict[str, Any],
        first_epoch: int = 0,
        in_c: tuple[int, ...] = (),
    ) -> None:
        """Have the processes form a world; rank i is processes[i]. in_c: those with C's control plane."""
        self.size = len(processes)
        self.broken = False
        self._processes = processes
        token = secrets.token_hex(8)
        self._server = Server(self.size, token)
        self._server.start()
        common = {
            "platform": PLATFORM,
            "share_devices": SHARED == "1",
            "world_size": self.size,
            "rendezvous": self._server.address,
            "token": token,
            **settings,
        }
        for rank, process in enumerate(processes):
            process.send(Open({**common, "rank": rank, "local_rank": rank}, first_epoch, rank in in_c))
        try:
            self._collect(PATIENCE)
        except RanksFailed:
            self._server.close()
            raise

    def run(self, body: Callable[..., Any], *arguments: Any, seed: int = SEED) -> list[Any]:
        """Run *body* on all ranks and return what it returned, by rank.

        Raises RanksFailed if it failed, or if what the ranks have noted of its calls' results
        (:mod:`checking`) does not fit together.
        """
        for rank in range(self.size):
            self.start(rank, body, *arguments, seed=seed)
        return self._collect(PATIENCE)

    def start(self, rank: int, body: Callable[..., Any], *arguments: Any, seed: int = SEED) -> None:
        """Send *body* to one rank; :meth:`finish` has what comes of it."""
        self._processes[rank].send(Call(body, arguments, seed))

    def finish(self, rank: int, timeout: float = PATIENCE) -> Reply:
        """The reply of one rank to what was started there."""
        reply = self._processes[rank].receive(timeout)
        assert not reply.notes, "what one rank notes of its results is compared by run() alone"
        return reply

    def signal(self, rank: int, number: int) -> None:
        """Send a signal to one rank's process."""
        self._processes[rank].signal(number)

    def wait_until_they_wait(self, ranks: list[int], most: float = 1.0) -> None:
        """Until ranks that were started wait in a kernel, on the CPU: it spins, so they use processor time,
        and on a loaded machine it takes them longer to get there. *most*: seconds."""
        processes = [self._processes[rank] for rank in ranks]
        deadline, came = time.monotonic() + most, [process.cpu_seconds() for process in processes]
        while time.monotonic() < deadline and any(
            process.cpu_seconds() < before + 0.1 for process, before in zip(processes, came, strict=True)
        ):
            time.sleep(0.01)

    def close(self) -> None:
        """Close the communicator on all ranks."""
        for process in self._processes:
            process.send(Close())
        try:
            self._collect(PATIENCE)
        finally:
            self._server.close()

    def abandon(self) -> None:
        """The communicator has failed, or its ranks are about to be killed: only let go of the server."""
        self._server.close()

    def _collect(self, timeout: float) -> list[Any]:
        deadline = time.monotonic() + timeout
        replies = [process.receive(max(0.0, deadline - time.monotonic())) for process in self._processes]
        errors = [
            f"---- rank {rank} of {self.size} ----\n{reply.error}"
            for rank, reply in enumerate(replies)
            if reply.error is not None
        ]
        if errors:
            self.broken = True
            raise RanksFailed("\n".join(["", *errors]))
        problem = checking.problem([reply.notes for reply in replies])
        if problem:
            raise RanksFailed(problem)
        return [reply.value for reply in replies]


class RankPool:
    """Worker processes, as many as the largest world so far, and the one world that they form now."""

    def __init__(self) -> None:
        self._processes: list[RankProcess] = []
        self._world: World | None = None
        self._key: object = None

    def world(
        self, size: int, first_epoch: int = 0, in_c: tuple[int, ...] = ALL_IN_C, **settings: Any
    ) -> World:
        """The world of this size whose ranks have these settings, keywords of :func:`hipcomm.init`.

        The same as last time if it is asked for again: a communicator in the middle of its life.
        """
        environment.check_keywords(settings, "world")
        key = (size, first_epoch, in_c, settings)
        if self._world is not None and self._world.broken:
            self.end()
        if self._world is not None and self._key != key:
            self._close_world()
        if self._world is None:
            while len(self._processes) < size:
                self._processes.append(RankProcess())
            try:
                self._world = World(self._processes[:size], settings, first_epoch, in_c)
            except RanksFailed:
                self.end()
                raise
            self._key = key
        return self._world

    def _close_world(self) -> None:
        world, self._world = self._world, None
        try:
            if world is not None:
                world.close()
        except RanksFailed:
            self.end()
            raise

    def close(self) -> None:
        """End in good order. Raises RanksFailed if the communicator cannot be closed."""
        try:
            if self._world is not None and not self._world.broken:
                self._close_world()
        finally:
            self.end()

    def end(self) -> None:
        """Kill all processes."""
        if self._world is not None:
            self._world.abandon()
            self._world = None
        while self._processes:
            self._processes.pop().end()
