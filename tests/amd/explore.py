"""Make calls whose launches run together, on weak memory, and say which is the first that went wrong.

    python tests/amd/explore.py OPERATION ALGORITHM [--objects DIRECTORY] [--calls N] …

The ranks are threads of this process, and one of them interprets the launches of all: the same seed gives the
same run, down to the last poll. HIPCOMM_AMD_SOFTWARE has the rest: arch, seed or delay=each, link. Prints one
line of JSON: how many calls were made, and what was wrong with the last ones, if anything.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

HIDDEN = 7168  # of norms
TIMEOUT = 100  # seconds of the launches' own clock, 10 ms for a round of turns


def main(arguments: list[str] | None = None, after_batch: Callable[[], None] | None = None) -> int:
    """Explore; 0 whatever was found. after_batch: called after every batch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("operation")
    parser.add_argument("algorithm", nargs="?")
    parser.add_argument("--world", type=int, default=2)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--batch", type=int, default=4, help="calls back to back, before they are checked")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--offset", type=int, default=0, help="bytes past alignment of the buffers")
    parser.add_argument("--registered", action="store_true", help="buffers are symmetric memory")
    parser.add_argument("--cached-staging", action="store_true", help="whatever the tuning row says")
    parser.add_argument("--wipe", action="store_true", help="every batch begins where flags are wiped")
    parser.add_argument("--objects", type=Path, help="code objects that come before the built ones")
    options = parser.parse_args(arguments)
    os.environ["HIPCOMM_PLATFORM"] = "amd-software"
    os.environ["HIPCOMM_CPU_DEVICES"] = str(options.world)
    os.environ["HIPCOMM_AMD_SOFTWARE"] += f",together={options.world},batch={options.batch + 1}"
    print(json.dumps(explore(options, after_batch)))
    return 0


def set_wiping_epoch(comm: Any, number: int) -> None:
    """What billions of calls would do: the next launch wipes old flags. No rank may be in a call."""
    from slabs import SLABS

    from hipcomm.core import ffi

    epoch = number % 4 * SLABS["SCRUB_PERIOD"] + SLABS["FIRST_EPOCH"]
    words = (ctypes.c_uint32 * SLABS["MAX_BLOCKS"]).from_address(
        int(ffi.cast("uintptr_t", comm._session._slabs.control[comm.rank]))
    )
    words[:] = [epoch] * len(words)


class NormCall:
    """A norm's call; count is of elements, in rows of HIDDEN."""

    def __init__(self, comm: Any, memory: Any, options: argparse.Namespace, seed: tuple[int, ...]) -> None:
        import norm_cases

        case = norm_cases.NormCase(
            options.operation, options.count // HIDDEN, HIDDEN, options.dtype, seed=seed
        )
        self.made = norm_cases.MadeNorm(comm, memory, case)
        self.made.fill()
        self.made.call()

    def check(self, _comm: Any) -> None:
        self.made.check(with_oracle=True)


def call_once(comm: Any, memory: Any, options: argparse.Namespace, call: int) -> Any:
    """The rank's part of one call, or of a message from rank 0 or 1 to the other."""
    import cases
    import messages

    root, seed = call % 2, (7, 1, call)
    if options.operation.endswith("_norm"):
        return NormCall(comm, memory, options, seed)
    if options.operation == "send":
        return messages.make(
            comm, memory, messages.Message(root, 1 - root, options.count, options.dtype, seed=seed)
        )
    offsets = (options.offset, options.offset)
    case = cases.Case(options.operation, options.count, options.dtype, root=root, offsets=offsets, seed=seed)
    return cases.make(comm, memory, case)


def explore(options: argparse.Namespace, after_batch: Callable[[], None] | None) -> dict[str, Any]:
    """Make the calls."""
    import hipcomm
    from hipcomm.hip import kernels

    read = kernels._read_code_object

    def read_first(directory: Path, file: str, arch: str) -> bytes:
        mutated = options.objects and options.objects / f"{file}.co"
        return mutated.read_bytes() if mutated and mutated.exists() else read(directory, file, arch)

    kernels._read_code_object = read_first
    if options.cached_staging:
        from hipcomm.memory import slabs

        allocate = slabs.Slabs._allocate
        slabs.Slabs._allocate = lambda self, name, size, uncached: allocate(
            self, name, size, uncached and "staging" not in name
        )
    ending = threading.Lock()
    meet = threading.Barrier(options.world, timeout=300)

    def work(comm: Any) -> None:
        from regions import Arena

        comm.device.use()
        registered = comm.empty(4 << 20, "uint8") if options.registered else None
        memory = Arena.at(registered.data_ptr, registered.nbytes) if registered else Arena(4 << 20)
        for first in range(0, options.calls, options.batch):
            memory.reset()
            if options.wipe:
                set_wiping_epoch(comm, first // options.batch)
            meet.wait()
            try:
                for call in range(first, first + options.batch):
                    made = call_once(comm, memory, options, call)
                    comm.synchronize()
                    made.check(comm)  # before the next launch: until that comes, the other ranks stand still
                comm.barrier()
            except (AssertionError, hipcomm.errors.Error) as error:
                with ending:  # at once: the other ranks would wait for this one's next launch
                    found = f"{type(error).__name__}: {error}".splitlines()[0][:200]
                    answer = {"calls": first + options.batch, "found": found}
                    os.write(1, (json.dumps(answer) + "\n").encode())
                    os._exit(0)
            meet.wait()
            if comm.rank == 0 and after_batch is not None:
                after_batch()

    settings = {"algorithm": options.algorithm} if options.algorithm else {}
    comms = hipcomm.init_all(list(range(options.world)), timeout=TIMEOUT, **settings)
    with ThreadPoolExecutor(options.world) as pool:
        list(pool.map(work, comms))
    comms.close()
    return {"calls": options.calls, "found": None}


if __name__ == "__main__":
    sys.exit(main())
