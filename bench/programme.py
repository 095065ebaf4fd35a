"""A programme: a fixed sequence of mixed collective calls in one arena of memory, and its exact outcome.

Every call has its own parts of the arena, so what the whole arena has to look like after all of them is
known beforehand, input by input. That also shows a call that writes where it should not, and one that
wrongly changes its input.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from hipcomm_bench.data import DTYPES, REDOPS
from hipcomm_bench.memory import Array, Bytes, dtype_of
from hipcomm_bench.ops import OPS, Call
from hipcomm_bench.outcome import combine, pieces

# Operations that can be in a programme: those whose ranks all have equal buffers.
MIXED = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast")

_ALIGNMENTS = (1, 2, 4, 8, 16, 64)  # in elements


@dataclass(frozen=True)
class Step:
    """One call of a programme.

    Attributes:
        call: its kind.
        send_count, recv_count: elements.
        send_at, recv_at: where the buffers begin in every rank's arena, in bytes; in place they overlap.
        root: of a broadcast.
    """

    call: Call
    send_count: int
    recv_count: int
    send_at: int
    recv_at: int
    root: int

    def describe(self) -> str:
        """Return the call in words, for messages."""
        words = [self.call.op.name, self.call.dtype] + [self.call.redop] * self.call.op.reduces
        mode = "in place" if self.call.in_place else "out of place"
        return f"{' '.join(words)}, {max(self.send_count, self.recv_count)} elements, {mode}"


class Programme:
    """Calls, inputs, and what comes of them, for one rank; the same calls on every rank.

    Attributes:
        steps: the calls.
        size: bytes of the arena.
        before: by number of the input, what the arena has to hold before: inputs, and 0xA5 elsewhere.
        after: likewise, what it has to hold after.
    """

    def __init__(
        self,
        seed: str,
        rank: int,
        world_size: int,
        *,
        ops: Sequence[str],
        calls: int,
        largest: int,
        inputs: int,
    ) -> None:
        """Make up a programme; a pure function of its arguments.

        Args:
            seed: what distinguishes it from others; the same on all ranks.
            rank: whose arena; world_size: how many ranks there are.
            ops: names of the operations to choose from.
            calls: how many.
            largest: bytes of the largest message.
            inputs: how many different inputs.
        """
        choice = random.Random(seed)
        self.steps: list[Step] = []
        self.size = 0
        for _ in range(calls):
            self.steps.append(self._make_up(choice, ops, largest, rank, world_size))
        self.before: list[Bytes] = []
        self.after: list[Bytes] = []
        for number in range(inputs):
            before, after = self._run(f"{seed}/{number}", rank, world_size)
            self.before.append(before)
            self.after.append(after)

    def _make_up(
        self, choice: random.Random, ops: Sequence[str], largest: int, rank: int, world_size: int
    ) -> Step:
        op = OPS[choice.choice(ops)]
        in_place = op.name == "broadcast" or (op.name != "all_to_all" and choice.random() < 0.5)
        call = Call(op, choice.choice(DTYPES), choice.choice(REDOPS) if op.reduces else "none", in_place)
        itemsize = dtype_of(call.dtype).itemsize
        # sizes are spread evenly over their logarithm: most are small, all orders of magnitude occur
        nbytes = int(2 ** choice.uniform(0, np.log2(largest + 1)))
        send_count, recv_count = op.elements(nbytes, itemsize, world_size)
        first = self._place(choice, max(send_count, recv_count), itemsize)
        if not in_place:
            other = self._place(choice, min(send_count, recv_count), itemsize)
            send_at, recv_at = (first, other) if send_count >= recv_count else (other, first)
        else:
            send_at = first + rank * send_count * itemsize * op.send_shares
            recv_at = first + rank * recv_count * itemsize * op.recv_shares
        return Step(call, send_count, recv_count, send_at, recv_at, choice.randrange(world_size))

    def _place(self, choice: random.Random, count: int, itemsize: int) -> int:
        """Return where in the arena a buffer goes: after all others, at some alignment."""
        unit = itemsize * choice.choice(_ALIGNMENTS)
        start = (self.size + unit - 1) // unit * unit
        self.size = start + count * itemsize
        return start

    def _run(self, seed: str, rank: int, world_size: int) -> tuple[Bytes, Bytes]:
        """Return the arena before and after, computed here."""
        before = np.full(self.size, 0xA5, np.uint8)
        after = before.copy()
        for number, step in enumerate(self.steps):
            kind = dtype_of(step.call.dtype)
            inputs = [
                _random_input(f"{seed}/{number}/{peer}", step, peer, world_size) for peer in range(world_size)
            ]
            own = inputs[rank].astype(kind).view(np.uint8)
            before[step.send_at : step.send_at + len(own)] = own
            after[step.send_at : step.send_at + len(own)] = own
            result = _outcome(step, inputs, rank, kind).view(np.uint8)
            after[step.recv_at : step.recv_at + len(result)] = result
        return before, after

    def find_wrong(self, arena: Bytes, number: int) -> str:
        """Return which steps an arena shows to be wrong, in words, or an empty text.

        Args:
            arena: as it is after the calls.
            number: of the input.
        """
        if np.array_equal(arena, self.after[number]):
            return ""
        wrong = np.flatnonzero(arena != self.after[number])
        found = []
        for index, step in enumerate(self.steps):
            itemsize = dtype_of(step.call.dtype).itemsize
            for name, start, count in (
                ("sends", step.send_at, step.send_count),
                ("receives", step.recv_at, step.recv_count),
            ):
                inside = wrong[(wrong >= start) & (wrong < start + count * itemsize)]
                if len(inside):
                    elements = len(np.unique((inside - start) // itemsize))
                    found.append(f"call {index} ({step.describe()}): {elements} of what it {name} are wrong")
        return "; ".join(found[:3]) or f"{len(wrong)} bytes that belong to no call were written"

    def bind(self, comm: Any, arrays: Any, stream: Any) -> list[partial[None]]:
        """Return the calls, ready to be made.

        Args:
            comm: the communicator.
            arrays: a function of offset, count and dtype that returns an array in the device's arena.
            stream: where to enqueue them.
        """
        return [self._bind(step, comm, arrays, stream) for step in self.steps]

    @staticmethod
    def _bind(step: Step, comm: Any, arrays: Any, stream: Any) -> partial[None]:
        kind = dtype_of(step.call.dtype)
        send = arrays(step.send_at, step.send_count, kind)
        recv = arrays(step.recv_at, step.recv_count, kind)
        method = getattr(comm, step.call.op.name)
        if step.call.op.name == "broadcast":
            return partial(method, recv, root=step.root, stream=stream)
        keywords: dict[str, Any] = {"op": step.call.redop} if step.call.op.reduces else {}
        if step.call.in_place and step.call.op.name == "all_reduce":
            return partial(method, recv, stream=stream, **keywords)
        return partial(method, send, recv, stream=stream, **keywords)


def _random_input(seed: str, step: Step, rank: int, world_size: int) -> Array:
    """Return what `rank` sends, as int64: small enough for exact results in every dtype."""
    values = np.random.default_rng(list(seed.encode()))
    if not step.call.op.reduces:
        return values.integers(0, 128, step.send_count)
    if step.call.redop == "prod":
        return values.integers(1, 3 if rank < 8 else 2, step.send_count)  # up to 2**8
    scale = world_size if step.call.redop == "avg" else 1
    return values.integers(0, max(2, 128 // world_size // scale), step.send_count) * scale


def _outcome(step: Step, inputs: list[Array], rank: int, kind: np.dtype[Any]) -> Array:
    """Return what `rank` receives, in the dtype `kind`."""
    found = [
        combine(inputs, step.call.redop, kind)[start : start + count]
        if source is None
        else inputs[source][start : start + count].astype(kind)
        for source, start, count in pieces(step.call.op, rank, len(inputs), step.recv_count, step.root)
    ]
    return np.concatenate(found)
