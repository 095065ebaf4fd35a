"""Messages between two ranks, as data: like :mod:`cases`, for send and recv.

A programme is a list of messages, and of cases of collectives, in one order that all ranks know; each rank
makes the calls that it takes part in, in that order. So nobody waits for somebody who waits for him.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cases
import numpy as np
import oracle
from cases import Case
from oracle import Array
from regions import Arena, Region


@dataclass(frozen=True)
class Message:
    """A message: who sends it to whom, what is in it, and where the buffers lie.

    offsets: bytes past alignment of the sender's and the receiver's buffer.
    """

    source: int
    dest: int
    count: int
    dtype: str = "uint8"
    offsets: tuple[int, int] = (0, 0)
    seed: tuple[int, ...] = (0,)

    def contents(self) -> Array:
        return oracle.make_input(self.seed, self.source, self.count, oracle.dtype_of(self.dtype), "bits")


class MadeMessage:
    """One end of a message that was sent or received, and its buffer."""

    def __init__(self, message: Message, buffer: Region, contents: Array) -> None:
        self.message = message
        self.buffer = buffer
        self._contents = contents

    def check(self, comm: Any) -> None:
        """Raise AssertionError unless the buffer holds the message, bit by bit, at either end."""
        got = self.buffer.get(oracle.dtype_of(self.message.dtype))
        problem = oracle.difference(oracle.bits(got), oracle.bits(self._contents))
        assert not problem, f"{self.message}, on rank {comm.rank} of {comm.world_size}: {problem}"


def make(comm: Any, memory: Arena, message: Message, stream: Any = None) -> MadeMessage | None:
    """Make this rank's call, if it takes part."""
    if comm.rank not in (message.source, message.dest):
        return None
    contents = message.contents()
    where = {"count": message.count, "dtype": message.dtype, "stream": stream}
    buffer = memory.region(contents.nbytes, message.offsets[comm.rank == message.dest])
    if comm.rank == message.source:
        buffer.put(contents)
        comm.send(buffer.address, message.dest, **where)
    else:
        comm.recv(buffer.address, message.source, **where)
    return MadeMessage(message, buffer, contents)


def make_any(comm: Any, memory: Arena, step: Message | Case) -> Any:
    """Make this rank's call of a step of a programme, if it takes part."""
    return make(comm, memory, step) if isinstance(step, Message) else cases.make(comm, memory, step)


def run(comm: Any, rng: np.random.Generator, programme: Iterable[Message | Case], burst: int = 8) -> int:
    """Make all calls as :func:`cases.run` does; return how many this rank has made."""
    return cases.run(comm, rng, programme, burst, make_any)


def random_message(rng: np.random.Generator, world: int, seed: tuple[int, ...], **fixed: Any) -> Message:
    """A message; what is not *fixed* is drawn. All ranks must draw alike."""
    source, dest = (int(rank) for rank in rng.permutation(world)[:2])
    drawn = {
        "source": source,
        "dest": dest,
        "count": int(rng.integers(0, 3000)),
        "dtype": oracle.pick(rng, oracle.ALL_DTYPES),
        "offsets": cases.random_offsets(rng),
        "seed": seed,
    }
    return Message(**{**drawn, **fixed})
