"""One rank of a run of the fault matrix. argv: what to do, as JSON; it leaves notes of what it sees."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

import hipcomm
from hipcomm.rendezvous.ranks import Ranks

PLAN = json.loads(sys.argv[1])
#: exchanges in whose place the victim does what is wrong with it
TAGS = {
    "exchange": "slabs/handles",
    "verification": "slabs/verified",
    "split": "split",
    "empty": "empty",
    "free": "free",
    "close": "close",
}
#: what all do in a phase that is a call: operation, elements, algorithm
CALLS = {
    "one_shot": ("all_reduce", 100, "one_shot"),
    "two_shot": ("all_reduce", 5000, "two_shot"),
    "staged": ("all_reduce", 100, "staged"),
    "pipelined": ("all_reduce", 300_000, "pipelined"),
    "all_gather": ("all_gather", 100, "auto"),
    "broadcast": ("broadcast", 300_000, "auto"),
    "barrier": ("barrier", 0, "auto"),
    "graph": ("graph", 100, "auto"),
    "idle": ("all_reduce", 100, "auto"),
}
STOPPED = 0.7  # seconds


def note_fault() -> None:
    Path(PLAN["notes"], "fault").write_text(str(time.monotonic()))


def do_wrong(comm: hipcomm.Communicator | None = None) -> None:
    """The fault. Returns where it is one that a rank comes back from."""
    fault = PLAN["fault"]
    note_fault()
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif fault == "stop":
        wake = f"sleep {STOPPED}; kill -CONT {os.getpid()}"
        subprocess.Popen(["sh", "-c", wake], start_new_session=True)
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault in ("exit0", "exit3"):
        os._exit(int(fault[-1]))
    elif fault == "exception":
        raise ValueError("the fault")
    elif fault == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)


def is_victim(rank: int) -> bool:
    return rank == PLAN["victim"]


def arm(rank: int) -> None:
    """Have the fault happen in place of an exchange."""
    tag = TAGS.get(PLAN["phase"])
    if tag is None or not is_victim(rank):
        return
    original = Ranks.all_gather

    def all_gather(self: Ranks, name: str, *rest: Any, **options: Any) -> list[bytes]:
        if name == tag and not armed.is_set() and self.rank == rank:
            armed.set()
            do_wrong()
        return original(self, name, *rest, **options)

    armed = threading.Event()
    Ranks.all_gather = all_gather  # type: ignore[method-assign]


def make_call(comm: hipcomm.Communicator) -> None:
    operation, count, _ = CALLS[PLAN["phase"]]
    x = np.full(count, comm.rank + 1, "f4")
    if operation == "all_reduce":
        comm.all_reduce(x)
        assert (x == comm.world_size * (comm.world_size + 1) / 2).all()
    elif operation == "all_gather":
        comm.all_gather(x, np.empty(count * comm.world_size, "f4"))
    elif operation == "broadcast":
        comm.broadcast(x, PLAN["victim"])
        assert (x == PLAN["victim"] + 1).all()
    elif operation == "barrier":
        comm.barrier()
    elif operation == "graph":
        in_a_graph(comm, x)
    comm.synchronize()


def in_a_graph(comm: hipcomm.Communicator, x: np.ndarray) -> None:
    from hipcomm.hip import call, hip

    stream = call("hipStreamCreate")
    call("hipStreamBeginCapture", stream, hip().hipStreamCaptureMode.hipStreamCaptureModeRelaxed)
    comm.all_reduce(x, stream=int(stream))
    executable = call("hipGraphInstantiateWithFlags", call("hipStreamEndCapture", stream), 0)
    call("hipGraphLaunch", executable, stream)
    call("hipStreamSynchronize", stream)


def work(rank: int, comm: hipcomm.Communicator) -> None:
    """What all ranks do; the victim what is wrong with it."""
    phase = PLAN["phase"]
    x = np.ones(10, "f4")
    comm.all_reduce(x)
    if phase in CALLS:
        if is_victim(rank):
            time.sleep(0.2)
            do_wrong(comm)
        elif phase == "idle":
            time.sleep(0.5)
        make_call(comm)
    elif phase == "split":
        part = comm.split(0)
        assert part is not None
        part.close()
    elif phase in ("empty", "free"):
        array = comm.empty(1000)
        array.free()


def run_rank(rank: int, comm: hipcomm.Communicator | None) -> None:
    seen = {"rank": rank, "error": None, "text": "", "at": 0.0}
    try:
        if comm is None:
            if PLAN["phase"] == "join" and is_victim(rank):
                do_wrong()
            algorithm = CALLS.get(PLAN["phase"], ("", 0, "auto"))[2]
            comm = hipcomm.init(algorithm=algorithm)
        with comm:
            work(rank, comm)
    except hipcomm.Error as error:
        seen |= {"error": type(error).__name__, "text": str(error), "at": time.monotonic()}
        if is_victim(rank):
            raise
    finally:
        if not is_victim(rank) or PLAN["fault"] == "stop":
            Path(PLAN["notes"], f"seen{rank}").write_text(json.dumps(seen))


def main() -> None:
    if PLAN["way"] != "threads":
        rank = int(os.environ["HIPCOMM_RANK"])
        arm(rank)
        run_rank(rank, None)
        return
    algorithm = CALLS.get(PLAN["phase"], ("", 0, "auto"))[2]
    comms = hipcomm.init_all(list(range(PLAN["world"])), algorithm=algorithm)
    arm(PLAN["victim"])

    def one(comm: hipcomm.Communicator) -> None:
        comm.device.use()
        with contextlib.suppress(ValueError):  # the fault: of the victim's thread
            run_rank(comm.rank, comm)

    threads = [threading.Thread(target=one, args=(comm,)) for comm in comms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
