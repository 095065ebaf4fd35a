"""Calls in which every pair of ranks has a part of its own, as data: like :mod:`cases`, for the rest of the
collectives.

A case says what each rank sends and what it must have afterwards. Buffers are described to the library
as arrays in device memory, so the same cases run on every platform.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cases
import numpy as np
import oracle
from cases import Case, random_case, random_offsets
from oracle import Array
from regions import POISON, Arena, Region, arena

REDUCTIONS = ("reduce_scatter", "reduce")
MOVEMENTS = ("all_to_all", "all_to_all_v", "all_gather_v", "all_gather_rows", "gather", "scatter")
OPERATIONS = REDUCTIONS + MOVEMENTS


class DeviceArray:
    """An array in device memory that belongs to a region."""

    def __init__(self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.address = address
        self.shape = shape
        self.dtype = dtype

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.address, False), "version": 3}


@dataclass(frozen=True)
class SegmentCase(Case):
    """count: elements of one part (of one row of it); for unequal parts, about how many.

    rows: 1, or how many rows a part has, along dimension 1 (reduce_scatter, all_gather_rows).
    """

    rows: int = 1

    def counts(self, world: int) -> Array:
        """Elements that rank i sends to rank j: of what comes of the first two numbers of the seed alone, so
        that a call can be repeated with other data."""
        if self.operation == "all_to_all_v":
            rng = np.random.default_rng([*self.seed[:2], 1])
            drawn = rng.integers(0, 2 * self.count + 1, (world, world))
            return np.where(rng.random((world, world)) < 0.2, 0, drawn)
        if self.operation == "all_gather_v":
            drawn = np.random.default_rng([*self.seed[:2], 2]).integers(0, 2 * self.count + 1, world)
            return np.repeat(drawn[:, None], world, axis=1)
        raise AssertionError(f"{self.operation} has equal parts")

    def elements(self, rank: int, world: int) -> int:
        """How many elements *rank* puts into its sendbuf."""
        if self.operation == "all_to_all_v":
            return int(self.counts(world)[rank].sum())
        if self.operation == "all_gather_v":
            return int(self.counts(world)[rank, 0])
        if self.operation in ("reduce_scatter", "all_to_all"):
            return self.rows * self.count * world
        if self.operation == "scatter":
            return self.count * world if rank == self.root else 0
        return self.rows * self.count

    def sent_by(self, rank: int, world: int) -> Array:
        dtype = oracle.dtype_of(self.dtype)
        return oracle.make_input(self.seed, rank, self.elements(rank, world), dtype, self.kind)

    def received_by(self, rank: int, world: int) -> Array | None:
        """What *rank* must receive; None: nothing."""
        if self.operation in ("reduce", "gather") and rank != self.root:
            return None
        if self.operation == "scatter":
            return np.split(self.sent_by(self.root, world), world)[rank]
        inputs = [self.sent_by(peer, world) for peer in range(world)]
        if self.operation == "reduce":
            return oracle.reduce(inputs, self.op)
        if self.operation == "reduce_scatter":
            whole = oracle.reduce(inputs, self.op).reshape(self.rows, world, self.count)
            return whole[:, rank].reshape(-1)
        if self.operation == "all_to_all":
            return np.concatenate([np.split(sent, world)[rank] for sent in inputs])
        if self.operation == "all_to_all_v":
            ends = self.counts(world).cumsum(axis=1)
            return np.concatenate(
                [
                    sent[end[rank] - n[rank] : end[rank]]
                    for sent, end, n in zip(inputs, ends, self.counts(world), strict=True)
                ]
            )
        if self.operation == "all_gather_rows":
            return np.concatenate([sent.reshape(self.rows, self.count) for sent in inputs], axis=1).reshape(
                -1
            )
        return np.concatenate(inputs)


class MadeSegments:
    """A call's buffers, in regions of their own: filled, called, checked; once, or again and again."""

    def __init__(self, comm: Any, memory: Arena, case: SegmentCase) -> None:
        rank, world = comm.rank, comm.world_size
        own, result = case.sent_by(rank, world), case.received_by(rank, world)
        self._comm = comm
        self._place = _place(case, rank, world) if case.in_place else None
        self._recv: Region | None
        if self._place is None:
            self._send = memory.region(own.nbytes, case.offsets[0])
            self._recv = None if result is None else memory.region(result.nbytes, case.offsets[1])
        else:
            assert result is not None
            outer = own if self._place[0] == "send" else result
            self._send = self._recv = memory.region(outer.nbytes, case.offsets[0])
        self.fill(case)

    def fill(self, case: SegmentCase) -> None:
        """Put the inputs of *case* in their place; it differs from the first one in its data only."""
        rank, world = self._comm.rank, self._comm.world_size
        self.case = case
        self._own, self._result = case.sent_by(rank, world), case.received_by(rank, world)
        if self._recv is not None:
            self._recv.put(np.full(self._recv.nbytes, POISON, np.uint8))
        if self._place is None:
            self._send.put(self._own)
            self._images = [(self._send, self._own)]
            if self._recv is not None and self._result is not None:
                self._images.append((self._recv, self._result))
            return
        holder, at = self._place
        assert self._result is not None
        if holder == "send":
            self._send.put(self._own)
            image = self._own.copy()
            image[at : at + self._result.size] = self._result
        else:
            self._send.put(self._own, at * self._own.itemsize)
            image = self._result
        self._images = [(self._send, image)]

    @property
    def regions(self) -> list[Region]:
        """The call's buffers."""
        return [region for region, _ in self._images]

    def call(self, stream: Any = None) -> None:
        """Make the call."""
        case, comm = self.case, self._comm
        send_at, recv_at = self._send.address, 0 if self._recv is None else self._recv.address
        if self._place is not None:
            inner = self._place[1] * self._own.itemsize
            send_at, recv_at = (
                (send_at, recv_at + inner) if self._place[0] == "send" else (send_at + inner, recv_at)
            )
        world = comm.world_size
        whole, part = (case.rows, world * case.count), (case.rows, case.count)
        shapes = {"reduce_scatter": (whole, part), "all_gather_rows": (part, whole)}
        flat = (self._own.size,), (0 if self._result is None else self._result.size,)
        send_shape, recv_shape = shapes.get(case.operation, flat)
        send = DeviceArray(send_at, send_shape, self._own.dtype)
        recv = None if self._result is None else DeviceArray(recv_at, recv_shape, self._own.dtype)
        if case.operation == "reduce_scatter":
            comm.reduce_scatter(send, recv, case.op, dim=1 if case.rows > 1 else 0, stream=stream)
        elif case.operation == "reduce":
            comm.reduce(send, recv, case.op, case.root, stream=stream)
        elif case.operation == "all_to_all":
            comm.all_to_all(send, recv, stream=stream)
        elif case.operation == "all_to_all_v":
            counts = case.counts(world)
            comm.all_to_all(send, recv, counts[comm.rank], counts[:, comm.rank], stream=stream)
        elif case.operation == "all_gather_v":
            comm.all_gather_v(send, recv, case.counts(world)[:, 0], stream=stream)
        elif case.operation == "all_gather_rows":
            comm.all_gather(send, recv, dim=1, stream=stream)
        elif case.operation == "gather":
            comm.gather(send, recv, case.root, stream=stream)
        else:
            comm.scatter(send if comm.rank == case.root else None, recv, case.root, stream=stream)

    def check(self, comm: Any) -> None:
        """Raise AssertionError unless every region is as it should be."""
        for number, (region, expected) in enumerate(self._images):
            got, image = region.get(expected.dtype), expected
            if self.case.operation in MOVEMENTS:  # every bit counts, also those of a NaN
                got, image = oracle.bits(got), oracle.bits(expected)
            problem = oracle.difference(got, image)
            where = f"{self.case}, buffer {number} of rank {comm.rank} in a world of {comm.world_size}"
            assert not problem, f"{where}: {problem}"


def _place(case: SegmentCase, rank: int, world: int) -> tuple[str, int] | None:
    """Which buffer holds the other one in an in-place call, and where in it, in elements."""
    if case.operation == "reduce_scatter" and case.rows == 1:
        return "send", rank * case.count
    if case.operation == "scatter" and rank == case.root:
        return "send", rank * case.count
    if case.operation == "gather" and rank == case.root:
        return "recv", rank * case.count
    if case.operation == "reduce" and rank == case.root:
        return "recv", 0
    if case.operation == "all_gather_v":
        return "recv", int(case.counts(world)[:rank, 0].sum())
    return None


def make(comm: Any, memory: Arena, case: SegmentCase) -> MadeSegments:
    """Make the call *case* on fresh regions of *memory*."""
    made = MadeSegments(comm, memory, case)
    made.call()
    return made


def make_any(comm: Any, memory: Arena, case: Case) -> Any:
    """Make a call of this module or of :mod:`cases`."""
    return make(comm, memory, case) if isinstance(case, SegmentCase) else cases.make(comm, memory, case)


def run(comm: Any, rng: np.random.Generator, chosen: Iterable[Case], burst: int = 8) -> int:
    """Make all calls, those of :mod:`cases` too, *burst* of them back to back; return how many."""
    memory = arena()
    made: list[Any] = []
    total = 0
    for case in chosen:
        cases.skew(rng)
        made.append(make_any(comm, memory, case))
        total += 1
        if len(made) == burst:
            _check_all(comm, memory, made)
    _check_all(comm, memory, made)
    return total


def _check_all(comm: Any, memory: Arena, made: list[Any]) -> None:
    comm.synchronize()
    while made:
        made.pop(0).check(comm)
    memory.reset()


def random_segment_case(
    rng: np.random.Generator, world: int, seed: tuple[int, ...], operation: str, **fixed: Any
) -> Case:
    """A call of *operation*, of either module; what is not *fixed* is drawn. All ranks must draw alike."""
    if operation not in OPERATIONS:
        return random_case(rng, world, seed, operation, **fixed)
    has_rows = operation == "all_gather_rows" or (operation == "reduce_scatter" and rng.random() < 0.5)
    drawn = {
        "count": int(rng.integers(0, 600)),
        "dtype": str(rng.choice(oracle.ALL_DTYPES)),
        "op": str(rng.choice(oracle.OPERATIONS)),
        "root": int(rng.integers(0, world)),
        "in_place": bool(rng.random() < 0.4),
        "offsets": random_offsets(rng),
        "kind": str(rng.choice(oracle.KINDS)) if operation in REDUCTIONS else "bits",
        "seed": seed,
        "rows": int(rng.integers(1, 9)) if has_rows else 1,
    }
    return SegmentCase(operation, **{**drawn, **fixed})
