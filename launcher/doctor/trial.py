"""The program of the doctor's trial job: every rank joins, maps its peers' memory and reduces with them.

``hipcomm.init`` exports and opens both kinds of memory that hipcomm shares, and verifies every mapping with a
pattern. What is added here are kernels, with a message that takes each of the two ways: in lines and through
staging.
"""

from __future__ import annotations

import hipcomm
from hipcomm.hip import call
from hipcomm.memory.peers import read_memory, write_memory

COUNTS = (1000, 1_000_003)  # int32


def main() -> None:
    """Run as one rank. Raises SystemExit where a result is wrong."""
    with hipcomm.init() as comm:
        expected = sum(range(1, comm.world_size + 1))
        for count in COUNTS:
            memory = call("hipMalloc", 4 * count)
            address = int(memory.as_c_void_p().value)
            write_memory(address, (comm.rank + 1).to_bytes(4, "little") * count)
            comm.all_reduce(address, count=count, dtype="int32")
            comm.synchronize()
            if read_memory(address, 4 * count) != expected.to_bytes(4, "little") * count:
                raise SystemExit(f"rank {comm.rank}: all_reduce of {count} int32 gave a wrong result")
            call("hipFree", memory)


if __name__ == "__main__":
    main()
