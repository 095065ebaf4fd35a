"""Calls whose buffers stay where they are while the call is made again and again, with other data: for
graphs, and for whoever wants to look at the call alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import oracle
from regions import POISON
from segments import MadeSegments, SegmentCase


def again(case, turn):
    """The same call with other data."""
    return replace(case, seed=(*case.seed[:2], turn))


def buffers(comm, memory, case):
    """One call's buffers; the case's seed changes with every replay."""
    return (SegmentBuffers if isinstance(case, SegmentCase) else Buffers)(comm, memory, case)


class SegmentBuffers:
    """Of a call in which every pair of ranks has a part of its own."""

    def __init__(self, comm, memory, case):
        self.comm = comm
        self.made = MadeSegments(comm, memory, case)

    def fill(self, turn):
        self.made.fill(again(self.made.case, turn))

    def make(self, stream):
        self.made.call(stream)

    def check(self):
        self.made.check(self.comm)


class Buffers:
    """Of a call of :mod:`cases`."""

    def __init__(self, comm, memory, case):
        self.comm = comm
        self.case = case
        dtype = oracle.dtype_of(case.dtype)
        nbytes = case.count * dtype.itemsize
        gathers = case.operation == "all_gather"
        self.recv = memory.region(nbytes * (comm.world_size if gathers else 1), case.offsets[1])
        self.shift = nbytes * comm.rank if gathers else 0
        in_place = case.in_place or case.operation == "broadcast"
        self.send = None if in_place else memory.region(nbytes, case.offsets[0])

    def fill(self, turn):
        self.case = again(self.case, turn)
        self.recv.put(np.full(self.recv.nbytes, POISON, np.uint8))
        own = self.case.input_of(self.comm.rank)
        if self.send is not None:
            self.send.put(own)
        elif self.case.operation != "broadcast" or self.comm.rank == self.case.root:
            self.recv.put(own, self.shift)

    def make(self, stream):
        case, comm = self.case, self.comm
        where = {"count": case.count, "dtype": case.dtype, "stream": stream}
        send = self.recv.address + self.shift if self.send is None else self.send.address
        if case.operation == "all_gather":
            comm.all_gather(send, self.recv.address, **where)
        elif case.operation == "broadcast":
            comm.broadcast(self.recv.address, case.root, **where)
        else:
            comm.all_reduce(send, self.recv.address, case.op, **where)

    def check(self):
        dtype = oracle.dtype_of(self.case.dtype)
        problem = oracle.difference(self.recv.get(dtype), self.case.expected(self.comm.world_size))
        assert not problem, f"{self.case} in a world of {self.comm.world_size}: {problem}"
