"""One collective call as data: choose it, make it, compare what it did with the oracle.

All ranks choose the same cases, from the same seed, and each can make every rank's input, so each checks
its own result without talking to the others.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import oracle
from oracle import Array
from plans import boundary_sizes
from regions import Arena, Region, arena

COLLECTIVES = ("all_reduce", "all_gather", "broadcast")


@dataclass(frozen=True)
class Case:
    """A call: all that the ranks have to agree on, and where the buffers lie.

    count: elements of one rank's input. offsets: bytes past alignment of sendbuf and recvbuf.
    """

    operation: str
    count: int
    dtype: str = "float32"
    op: str = "sum"
    root: int = 0
    in_place: bool = False
    offsets: tuple[int, int] = (0, 0)
    kind: str = "plain"
    seed: tuple[int, ...] = (0,)

    def input_of(self, rank: int) -> Array:
        """What *rank* sends."""
        return oracle.make_input(self.seed, rank, self.count, oracle.dtype_of(self.dtype), self.kind)

    def expected(self, world: int) -> Array:
        """What every rank receives."""
        if self.operation == "broadcast":
            return self.input_of(self.root)
        inputs = [self.input_of(rank) for rank in range(world)]
        return np.concatenate(inputs) if self.operation == "all_gather" else oracle.reduce(inputs, self.op)


class Made:
    """A call that was made, and the regions that it used."""

    def __init__(self, case: Case, send: Region | None, recv: Region) -> None:
        self.case = case
        self.send = send  # None: in place
        self.recv = recv

    @property
    def regions(self) -> list[Region]:
        """All that the call could touch."""
        return [self.recv] if self.send is None else [self.send, self.recv]

    def check(self, comm: Any) -> None:
        """Raise AssertionError unless this rank got what it should and nothing else was touched."""
        dtype = oracle.dtype_of(self.case.dtype)
        problem = oracle.difference(self.recv.get(dtype), self.case.expected(comm.world_size))
        assert not problem, f"{self.case} in a world of {comm.world_size}: {problem}"
        if self.send is not None:
            problem = oracle.difference(self.send.get(dtype), self.case.input_of(comm.rank))
            assert not problem, f"{self.case} in a world of {comm.world_size} changed its input: {problem}"


def make(comm: Any, memory: Arena, case: Case) -> Made:
    """Make the call *case* on fresh regions of *memory*."""
    where = {"count": case.count, "dtype": case.dtype}
    own = case.input_of(comm.rank)
    if case.operation == "broadcast":
        buffer = memory.region(own.nbytes, case.offsets[0])
        if comm.rank == case.root:
            buffer.put(own)
        comm.broadcast(buffer.address, case.root, **where)
        return Made(case, None, buffer)

    gathers = case.operation == "all_gather"
    recv = memory.region(own.nbytes * (comm.world_size if gathers else 1), case.offsets[1])
    if case.in_place:
        send, offset = None, own.nbytes * comm.rank if gathers else 0
        recv.put(own, offset)
        send_address = recv.address + offset
    else:
        send = memory.region(own.nbytes, case.offsets[0])
        send.put(own)
        send_address = send.address
    if gathers:
        comm.all_gather(send_address, recv.address, **where)
    else:
        comm.all_reduce(send_address, recv.address, case.op, **where)
    return Made(case, send, recv)


def skew(rng: np.random.Generator) -> None:
    """Be late, now and then; each rank at other times."""
    if rng.random() < 0.25:
        time.sleep(float(rng.exponential(5e-4)))


def run(comm: Any, rng: np.random.Generator, cases: Iterable[Case], burst: int = 8) -> int:
    """Make all calls, *burst* of them back to back before their results are checked; return how many."""
    memory = arena()
    made: list[Made] = []
    total = 0
    for case in cases:
        skew(rng)
        made.append(make(comm, memory, case))
        total += 1
        if len(made) == burst:
            _check_all(comm, memory, made)
    _check_all(comm, memory, made)
    return total


def _check_all(comm: Any, memory: Arena, made: list[Made]) -> None:
    comm.synchronize()
    while made:
        made.pop(0).check(comm)
    memory.reset()


# ---- choosing --------------------------------------------------------------------------------------


def random_offsets(rng: np.random.Generator) -> tuple[int, int]:
    """Two addresses' bytes past alignment: any, odd ones included."""
    aligned = rng.random() < 0.5
    return (0, 0) if aligned else (int(rng.integers(0, 16)), int(rng.integers(0, 16)))


def boundary_cases(
    comm: Any,
    rng: np.random.Generator,
    operation: str,
    algorithm: str,
    seed: tuple[int, ...],
    staging_bytes: int = 0,
) -> Iterator[Case]:
    """Calls with one element less, the same and one more than each of the sizes where a plan changes."""
    arch, blocks = comm.device.arch, comm.device.multiprocessors
    for nbytes in boundary_sizes(operation, comm.world_size, arch, algorithm, blocks, staging_bytes):
        for more in (-1, 0, 1):
            case = random_case(rng, comm.world_size, (*seed, nbytes, more + 1), operation)
            count = nbytes // oracle.dtype_of(case.dtype).itemsize + more
            if count >= 0:
                yield replace(case, count=count)


def random_case(
    rng: np.random.Generator, world: int, seed: tuple[int, ...], operation: str, **fixed: Any
) -> Case:
    """A call of *operation*; what is not *fixed* is drawn. All ranks must draw alike."""
    drawn = {
        "count": int(rng.integers(0, 2000)),
        "dtype": str(rng.choice(oracle.DTYPES)),
        "op": str(rng.choice(oracle.OPERATIONS)),
        "root": int(rng.integers(0, world)),
        "in_place": bool(rng.random() < 0.4),
        "offsets": random_offsets(rng),
        "kind": str(rng.choice(oracle.KINDS)),
        "seed": seed,
    }
    return Case(operation, **{**drawn, **fixed})
