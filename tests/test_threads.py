"""Ranks as threads of one process: the same results over plain pointers."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from harness import PLATFORM, worlds

TESTS = Path(__file__).parent

PRELUDE = """
import sys, threading
sys.path.insert(0, sys.argv[1])
import numpy as np
import hipcomm
from concurrent.futures import ThreadPoolExecutor

def in_threads(comms, body):
    # Drivers allocate memory and instantiate graphs behind whatever runs on any device of the process, and
    # that may be a peer's collective waiting for this very rank: the bodies meet before their first call.
    global meet
    meet = threading.Barrier(len(comms), timeout=60)
    def run(comm):
        comm.device.use()
        try:
            return body(comm)
        except BaseException as error:
            comm.abort(f"{type(error).__name__}: {error}")
            raise
    with ThreadPoolExecutor(len(comms)) as pool:
        return list(pool.map(run, comms))
"""


def run(code: str, *arguments: object) -> str:
    """Run a program that has ranks as threads; what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HIPCOMM_")}
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code), str(TESTS), *map(str, arguments)],
        env={**environment, "HIPCOMM_PLATFORM": PLATFORM, "HIPCOMM_TIMEOUT": "20"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("world", worlds(1, 2, 3, 4))
def test_every_collective(world):
    """The cases of the process tests, on registered memory and on other."""
    out = run(
        """
        import cases
        from regions import Arena
        world = int(sys.argv[2])

        def body(comm):
            symmetric = comm.empty(4 << 20, "uint8")
            inside = Arena.at(symmetric.data_ptr, symmetric.nbytes)
            outside = Arena(4 << 20)
            meet.wait()
            shared, rng = np.random.default_rng(41), np.random.default_rng(comm.rank)
            for call in range(300):
                operations = cases.OPERATIONS
                operation = operations[call % len(operations)]
                case = cases.random_case(shared, world, (41, call), operation)
                memory = inside if shared.random() < 0.5 else outside
                memory.reset()
                cases.skew(rng)
                made = cases.make(comm, memory, case)
                comm.synchronize()
                made.check(comm)
            symmetric.free()
            return comm.rank

        with hipcomm.init_all(range(world)) as comms:
            assert [comm.rank for comm in comms] == list(range(world))
            assert [comm.device.ordinal for comm in comms] == list(range(world))
            print(in_threads(comms, body))
        """,
        world,
    )
    assert out.strip() == str(list(range(world)))


@pytest.mark.parametrize("world", worlds(4))
def test_split_register_and_graphs(world):
    run(
        """
        from hipcomm.hip import call, hip
        from regions import Arena

        def body(comm):
            part = comm.split(comm.rank % 2)
            memory = Arena(1 << 20)
            region = memory.region(40000)
            part.register(region.address, region.nbytes)
            stream = call("hipStreamCreateWithFlags", hip().hipStreamNonBlocking)
            mode = hip().hipStreamCaptureMode.hipStreamCaptureModeThreadLocal
            call("hipStreamBeginCapture", stream, mode)
            part.all_reduce(region.address, count=10000, dtype="float32", stream=stream)
            comm.barrier(stream=stream)
            executable = call("hipGraphInstantiateWithFlags", call("hipStreamEndCapture", stream), 0)
            meet.wait()
            for turn in range(50):
                region.put(np.full(10000, comm.rank + turn, np.float32))
                call("hipDeviceSynchronize")
                call("hipGraphLaunch", executable, stream)
                part.synchronize(stream=stream)
                got = region.get(np.dtype(np.float32))
                assert (got == sum(rank + turn for rank in range(comm.rank % 2, 4, 2))).all()
            part.deregister(region.address)
            part.close()

        with hipcomm.init_all([3, 2, 1, 0]) as comms:
            assert [comm.device.ordinal for comm in comms] == [3, 2, 1, 0]
            in_threads(comms, body)
        """
    )


@pytest.mark.parametrize("world", worlds(3))
def test_a_thread_that_has_chosen_no_device(world):
    """Memory is the communicator's device's, and so is what is waited for; the thread's own stays current."""
    run(
        """
        from hipcomm.hip import call

        def run(comm):
            before = call("hipGetDevice")
            array = comm.empty(1000, "float32")
            attributes = call("hipPointerGetAttributes", array.data_ptr)
            comm.synchronize()
            part = comm.split(0)
            part.close()
            array.free()
            devices[comm.rank] = attributes.device, before, call("hipGetDevice")

        with hipcomm.init_all([2, 1, 0]) as comms:
            devices = {}
            threads = [threading.Thread(target=run, args=(comm,)) for comm in comms]
            [thread.start() for thread in threads]
            [thread.join(60) for thread in threads]
            assert devices == {0: (2, 0, 0), 1: (1, 0, 0), 2: (0, 0, 0)}, devices
        """
    )


@pytest.mark.parametrize("world", worlds(3))
def test_an_end_without_close(world):
    """The rank that hosts the server waits for the others, which are threads of the same process."""
    started = time.monotonic()
    run(
        """
        comms = hipcomm.init_all([0, 1, 2])
        # a set has any order, and two times out of three it was one that did no harm
        hipcomm.join.session._living = dict.fromkeys(comm._session for comm in comms)
        """
    )
    assert time.monotonic() - started < 10  # HIPCOMM_TIMEOUT is 20


@pytest.mark.parametrize("world", worlds(3))
def test_a_thread_that_raises(world):
    """The others, which wait for it in a kernel, leave and say who it was."""
    run(
        """
        def body(comm):
            if comm.rank == 1:
                comm.barrier()
                comm.synchronize()
                raise ValueError("no more")
            try:
                for _ in range(2):  # rank 1 may fail before the others have left the first
                    comm.barrier()
                    comm.synchronize()
            except hipcomm.PeerDied as error:
                return error.peer, str(error)

        comms = hipcomm.init_all([0, 1, 2])
        results = {}
        def run(comm):
            comm.device.use()
            try:
                results[comm.rank] = body(comm)
            except ValueError as error:
                comm.abort(str(error))
        threads = [threading.Thread(target=run, args=(comm,)) for comm in comms]
        [thread.start() for thread in threads]
        [thread.join(60) for thread in threads]
        assert results.keys() == {0, 2}, results
        assert all(peer == 1 and "no more" in text for peer, text in results.values()), results
        comms.close()
        """
    )


@functools.cache
def refusals() -> str:
    return run(
        """
        for devices in ([], "01", [0, 0], [0, 1 << 20], ["no such device", 0]):
            try:
                hipcomm.init_all(devices)
            except hipcomm.InvalidArgument as error:
                print(error)
        with hipcomm.init_all([0]) as comms:
            x = comms[0].empty(10)
            comms[0].all_reduce(x)
        comms.close()
        """
    )


def test_refusals():
    lines = refusals().splitlines()
    assert len(lines) == 5, lines
    assert "init_all: devices=[]" in lines[0] and "init_all: devices='01'" in lines[1]
    assert "the same device" in lines[2] or worlds(2) == ()
    assert "1048576" in lines[3] and "no such device" in lines[4]
