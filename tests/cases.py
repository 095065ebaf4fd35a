"""One collective call as data: choose it, make it, compare what it did with the oracle.

All ranks choose the same cases, from the same seed. A call's buffers can be filled again and the call be made
again, with other data; a library sees the operations that come in parts as arrays in device memory, so the
same cases run on every platform.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import checking
import numpy as np
import oracle
from oracle import Array
from plans import boundary_sizes
from regions import POISON, Arena, DeviceArray, Region, arena

from hipcomm.plan import TABLE_OF_OPERATIONS

OF = {  # messages and norms have cases of their own
    name: row
    for name, row in TABLE_OF_OPERATIONS.items()
    if row.bytes not in ("None", "Message") and not name.endswith(("_norm", "_tokens"))
}
COLLECTIVES = ("all_reduce", "all_gather", "broadcast")  # those called by address and count
IN_PARTS = tuple(name for name in OF if name not in COLLECTIVES)
REDUCTIONS = tuple(name for name in IN_PARTS if OF[name].reduces)
MOVEMENTS = tuple(name for name in IN_PARTS if not OF[name].reduces)
OPERATIONS = COLLECTIVES + IN_PARTS
REDUCING = ("all_reduce", *REDUCTIONS)
DIRECT = tuple(name for name in OF if OF[name].reads or OF[name].writes)


@dataclass(frozen=True)
class Case:
    """A call: all that the ranks have to agree on, and where the buffers lie.

    count: elements of one part (of one row of it); for unequal parts, about how many.
    offsets: bytes past alignment of sendbuf and recvbuf; one buffer has the first.
    rows: 1, or how many rows a part has, along dimension 1 (reduce_scatter, all_gather_rows).
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
    rows: int = 1

    def counts(self, world: int) -> Array | None:
        """Elements that rank i sends to rank j, where parts are unequal: of what comes of the first two
        numbers of the seed alone, so that a call can be repeated with other data."""
        if self.operation == "all_to_all_v":
            rng = np.random.default_rng([*self.seed[:2], 1])
            drawn = rng.integers(0, 2 * self.count + 1, (world, world))
            return np.where(rng.random((world, world)) < 0.2, 0, drawn)
        if self.operation == "all_gather_v":
            drawn = np.random.default_rng([*self.seed[:2], 2]).integers(0, 2 * self.count + 1, world)
            return np.repeat(drawn[:, None], world, axis=1)
        return None

    def sends(self, rank: int, world: int) -> int:
        """How many elements *rank* puts into its sendbuf."""
        counts = self.counts(world)
        if counts is not None:
            return int(counts[rank].sum() if self.operation == "all_to_all_v" else counts[rank, 0])
        if OF[self.operation].root == "Sends" and rank != self.root:
            return 0
        parts = world if OF[self.operation].sent == "Each" else 1
        return self.rows * self.count * parts

    def receives(self, rank: int, world: int) -> int | None:
        """How many elements *rank* receives; None: it has no recvbuf."""
        if OF[self.operation].root == "Receives" and rank != self.root:
            return None
        counts = self.counts(world)
        if counts is not None:
            return int(counts[:, rank].sum())
        parts = world if OF[self.operation].received == "Each" else 1
        return self.rows * self.count * parts

    def sent_by(self, rank: int, world: int) -> Array:
        dtype = oracle.dtype_of(self.dtype)
        return oracle.make_input(self.seed, rank, self.sends(rank, world), dtype, self.kind)

    def results(self, world: int) -> list[Array | None]:
        """What each rank must receive, by rank; None: nothing."""
        sent = [self.sent_by(rank, world) for rank in range(world)]
        return oracle.results(self.operation, sent, self.op, self.root, self.rows, self.counts(world))

    def comparable(self, result: Array) -> Array:
        """A result as it is compared: where nothing is computed every bit counts, also those of a NaN."""
        return result if self.operation in REDUCING else oracle.bits(result)

    def place(self, rank: int, world: int) -> tuple[str, int] | None:
        """Which buffer holds the other one, and where in it, in elements; None: there are two buffers."""
        if self.operation == "broadcast":
            return "recv", 0
        if not self.in_place or (self.operation in ("reduce", "gather", "scatter") and rank != self.root):
            return None
        if self.operation in ("all_reduce", "reduce"):
            return "recv", 0
        if self.operation in ("all_gather", "gather"):
            return "recv", rank * self.count
        if self.operation == "scatter" or (self.operation == "reduce_scatter" and self.rows == 1):
            return "send", rank * self.count
        counts = self.counts(world)
        return ("recv", int(counts[:rank, 0].sum())) if self.operation == "all_gather_v" else None


class Made:
    """A call's buffers, in regions of their own: filled, called, checked; once, or again and again."""

    def __init__(self, comm: Any, memory: Arena, case: Case) -> None:
        self._comm = comm
        self._dtype = oracle.dtype_of(case.dtype)
        self._received = case.receives(comm.rank, comm.world_size)
        self._place = case.place(comm.rank, comm.world_size)
        sent = case.sends(comm.rank, comm.world_size) * self._dtype.itemsize
        received = (self._received or 0) * self._dtype.itemsize
        self.recv: Region | None
        if self._place is None:
            self.send = memory.region(sent, case.offsets[0])
            self.recv = None if self._received is None else memory.region(received, case.offsets[1])
        else:
            outer = sent if self._place[0] == "send" else received
            self.send = self.recv = memory.region(outer, case.offsets[0])
        self._put(case)

    @property
    def regions(self) -> list[Region]:
        """All that the call could touch."""
        return [self.send] if self.recv is None or self.recv is self.send else [self.send, self.recv]

    def fill(self, turn: int) -> None:
        """Other inputs, and poison where the result will be."""
        if self.recv is not None:
            self.recv.put(np.full(self.recv.nbytes, POISON, np.uint8))
        self._put(replace(self.case, seed=(*self.case.seed[:2], turn)))

    def _put(self, case: Case) -> None:
        self.case = case
        self._own = case.sent_by(self._comm.rank, self._comm.world_size)
        within = self._place is not None and self._place[0] == "recv"
        self.send.put(self._own, self._place[1] * self._own.itemsize if self._place and within else 0)

    def make(self, stream: Any = None) -> None:
        """Make the call."""
        case, comm, world = self.case, self._comm, self._comm.world_size
        send_at, recv_at = self.send.address, 0 if self.recv is None else self.recv.address
        if self._place is not None:
            inner = self._place[1] * self._dtype.itemsize
            send_at, recv_at = (
                (send_at, recv_at + inner) if self._place[0] == "send" else (send_at + inner, recv_at)
            )
        if case.operation in COLLECTIVES:
            where = {"count": case.count, "dtype": case.dtype, "stream": stream}
            if case.operation == "broadcast":
                comm.broadcast(recv_at, case.root, **where)
            elif case.operation == "all_gather":
                comm.all_gather(send_at, recv_at, **where)
            else:
                comm.all_reduce(send_at, recv_at, case.op, **where)
            return
        whole, part = (case.rows, world * case.count), (case.rows, case.count)
        shapes = {"reduce_scatter": (whole, part), "all_gather_rows": (part, whole)}
        flat = (self._own.size,), (self._received or 0,)
        send_shape, recv_shape = shapes.get(case.operation, flat)
        send = DeviceArray(send_at, send_shape, self._dtype)
        recv = None if self._received is None else DeviceArray(recv_at, recv_shape, self._dtype)
        counts = case.counts(world)
        if case.operation == "reduce_scatter":
            comm.reduce_scatter(send, recv, case.op, dim=1 if case.rows > 1 else 0, stream=stream)
        elif case.operation == "reduce":
            comm.reduce(send, recv, case.op, case.root, stream=stream)
        elif case.operation == "all_to_all":
            comm.all_to_all(send, recv, stream=stream)
        elif case.operation == "all_to_all_v":
            comm.all_to_all(send, recv, counts[comm.rank], counts[:, comm.rank], stream=stream)
        elif case.operation == "all_gather_v":
            comm.all_gather_v(send, recv, counts[:, 0], stream=stream)
        elif case.operation == "all_gather_rows":
            comm.all_gather(send, recv, dim=1, stream=stream)
        elif case.operation == "gather":
            comm.gather(send, recv, case.root, stream=stream)
        elif case.operation == "scatter":
            comm.scatter(send if comm.rank == case.root else None, recv, case.root, stream=stream)
        else:
            raise NotImplementedError(f"how {case.operation} is called")

    def check(self, comm: Any) -> None:
        """Raise AssertionError unless this rank got what it should and nothing else was touched."""
        got = self.recv.get(self._dtype) if self.recv else None
        if self._place is None or self._place[0] == "send":
            sent, own = self.send.get(self._dtype), self._own
            if self._place is not None:
                result = slice(self._place[1], self._place[1] + (self._received or 0))
                got, own = sent[result], own.copy()
                own[result] = got
            difference = oracle.difference(oracle.bits(sent), oracle.bits(own))
            where = f"{self.case} on rank {comm.rank} in a world of {comm.world_size}"
            assert not difference, f"{where} changed its input: {difference}"
        checking.check(comm, self.case, got)


def make(comm: Any, memory: Arena, case: Case) -> Made:
    """Make the call *case* on fresh regions of *memory*."""
    made = Made(comm, memory, case)
    made.make()
    return made


def skew(rng: np.random.Generator) -> None:
    """Be late, now and then; each rank at other times."""
    if rng.random() < 0.25:
        time.sleep(float(rng.exponential(5e-4)))


def run(
    comm: Any, rng: np.random.Generator, chosen: Iterable[Any], burst: int = 8, make_one: Any = make
) -> int:
    """Make all calls, *burst* of them back to back before their results are checked; return how many.

    make_one: makes a call, as :func:`make` does; None where this rank has no part in it.
    """
    memory = arena()
    made: list[Any] = []
    total = 0
    for case in chosen:
        skew(rng)
        call = make_one(comm, memory, case)
        if call is None:
            continue
        made.append(call)
        total += 1
        if len(made) == burst:
            check_all(comm, made)
            memory.reset()
    check_all(comm, made)
    memory.reset()
    return total


def check_all(comm: Any, made: list[Any]) -> None:
    """Wait for the calls, check them, and forget them."""
    comm.synchronize()
    while made:
        made.pop(0).check(comm)


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
    parts = operation in IN_PARTS
    has_rows = operation == "all_gather_rows" or (operation == "reduce_scatter" and rng.random() < 0.5)
    drawn = {
        "count": int(rng.integers(0, 600 if parts else 2000)),
        "dtype": oracle.pick(rng, oracle.ALL_DTYPES if parts else oracle.DTYPES),
        "op": oracle.pick(rng, oracle.OPERATIONS),
        "root": int(rng.integers(0, world)),
        "in_place": bool(rng.random() < 0.4),
        "offsets": random_offsets(rng),
        "kind": "bits" if operation in MOVEMENTS else oracle.pick(rng, oracle.KINDS),
        "seed": seed,
        "rows": int(rng.integers(1, 9)) if has_rows else 1,
    }
    return Case(operation, **{**drawn, **fixed})
