"""Make calls whose launches run together, on weak memory, and say which is the first that went wrong.

    python tests/amd/explore.py OPERATION ALGORITHM [--objects DIRECTORY] [--calls N] …

The ranks are threads of this process, and one of them interprets the launches of all: the same seed gives the
same run, down to the last poll. HIPCOMM_AMD_SOFTWARE has the rest: arch, seed or delay=each, link. Prints one
line of JSON: how many calls were made, and what was wrong with the last ones, if anything.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

TIMEOUT = 100  # seconds of the launches' own clock, 10 ms for a round of turns


def main() -> int:
    """Explore; 0 whatever was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("operation")
    parser.add_argument("algorithm", nargs="?")
    parser.add_argument("--world", type=int, default=2)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--batch", type=int, default=4, help="calls back to back, before they are checked")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--objects", type=Path, help="code objects that come before the built ones")
    options = parser.parse_args()
    os.environ["HIPCOMM_PLATFORM"] = "amd-software"
    os.environ["HIPCOMM_CPU_DEVICES"] = str(options.world)
    os.environ["HIPCOMM_AMD_SOFTWARE"] += f",together={options.world},batch={options.batch}"
    print(json.dumps(explore(options)))
    return 0


def call_once(comm: Any, memory: Any, options: argparse.Namespace, call: int) -> Any:
    """The rank's part of one call, or of a message from rank 0 or 1 to the other."""
    import cases
    import messages

    root, seed = call % 2, (7, 1, call)
    if options.operation == "send":
        return messages.make(
            comm, memory, messages.Message(root, 1 - root, options.count, options.dtype, seed=seed)
        )
    return cases.make(
        comm, memory, cases.Case(options.operation, options.count, options.dtype, root=root, seed=seed)
    )


def explore(options: argparse.Namespace) -> dict[str, Any]:
    """Make the calls."""
    import hipcomm
    from hipcomm.hip import kernels

    read = kernels._read_code_object

    def read_first(directory: Path, file: str, arch: str) -> bytes:
        mutated = options.objects and options.objects / f"{file}.co"
        return mutated.read_bytes() if mutated and mutated.exists() else read(directory, file, arch)

    kernels._read_code_object = read_first
    done, wrong = [0], []
    meet = threading.Barrier(options.world, timeout=300)

    def work(comm: Any) -> None:
        from regions import Arena

        comm.device.use()
        memory = Arena(16 << 20)
        for first in range(0, options.calls, options.batch):
            memory.reset()
            meet.wait()
            try:
                made = [call_once(comm, memory, options, first + call) for call in range(options.batch)]
                comm.synchronize()
                for one in made:
                    one.check(comm)
            except (AssertionError, hipcomm.errors.Error) as error:
                wrong.append(f"{type(error).__name__}: {error}".splitlines()[0][:200])
            if comm.rank == 0:
                done[0] = first + options.batch
            meet.wait()
            if wrong:
                return

    settings = {"algorithm": options.algorithm} if options.algorithm else {}
    comms = hipcomm.init_all(list(range(options.world)), timeout=TIMEOUT, **settings)
    try:
        with ThreadPoolExecutor(options.world) as pool:
            list(pool.map(work, comms))
    finally:
        if wrong:
            os.write(1, (json.dumps({"calls": done[0], "found": wrong[0]}) + "\n").encode())
            os._exit(0)
        comms.close()
    return {"calls": done[0], "found": None}


if __name__ == "__main__":
    sys.exit(main())
