"""What the buffers hold: inputs whose results are exact in every dtype, and the count of wrong results.

Element i of rank r is a small whole number that depends on both, so a result that misses a rank, counts
one twice, or lands in the wrong place, is seen. Sums stay small enough to be exact even in bfloat16, so a
result is right or wrong, whatever the order of the additions; there is no tolerance.

The numbers repeat after a few thousand elements. So a gigabyte is written and compared from a few ready
megabytes, at the speed of memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from hipcomm.buffers.dtypes import CODES
from hipcomm.plan import REDUCTIONS
from hipcomm_bench.memory import Array, Buffer, Memory, dtype_of
from hipcomm_bench.ops import Call
from hipcomm_bench.outcome import combine, pieces

REDOPS = tuple(REDUCTIONS)
DTYPES = tuple(dtype.name for dtype in CODES if not dtype.name.startswith("float8"))

# Elements that are written or compared at a time.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Buffers:
    """One rank's buffers for one call. In place, the smaller is a part of the larger, or both are one."""

    send: Buffer
    recv: Buffer


def lay_out(call: Call, size: int, rank: int, world_size: int, memory: tuple[Memory, Memory]) -> Buffers:
    """Return one rank's buffers for a message of `size` bytes, at the start of two large allocations.

    Args:
        call: in place, only the second allocation is used.
        size: of the message, see hipcomm_bench.ops.
        rank: which rank's; world_size: of how many.
        memory: to send from, and to receive into.
    """
    itemsize = dtype_of(call.dtype).itemsize
    send_count, recv_count = call.op.elements_of(size, itemsize, rank, world_size, call.root)
    send_at = recv_at = 0
    if call.in_place and call.op.divided:
        whole = max(call.op.elements(size, itemsize, world_size))
        own = sum(call.op.parts(whole, world_size)[:rank]) * itemsize
        send_at, recv_at = own * call.op.send_shares, own * call.op.recv_shares
    return Buffers(
        Buffer(memory[call.in_place], send_at, send_count, call.dtype, _shape(call, send_count, world_size)),
        Buffer(memory[1], recv_at, recv_count, call.dtype, _shape(call, recv_count, world_size)),
    )


def _shape(call: Call, count: int, world_size: int) -> tuple[int, ...]:
    """Return the shape of a buffer of `count` elements: the whole's, or that of a part of it."""
    if not call.shape or count == prod(call.shape):
        return call.shape
    return *call.shape[: call.dim], call.shape[call.dim] // world_size, *call.shape[call.dim + 1 :]


def whole_of(call: Call, buffers: Buffers, world_size: int) -> int:
    """Return the elements of a call's largest buffer, which may be another rank's."""
    if call.op.unequal:
        return buffers.recv.count
    sent = buffers.send.count * (world_size if call.op.send_shares else 1)
    return max(sent, buffers.recv.count * (world_size if call.op.recv_shares else 1))


def fill(buffers: Buffers, call: Call, rank: int, world_size: int) -> None:
    """Write this rank's input into the send buffer, after filling the receive buffer with other values."""
    send, recv = buffers.send, buffers.recv
    recv.memory.poison(recv.offset, recv.nbytes)
    itemsize = dtype_of(call.dtype).itemsize
    for start in range(0, send.count, _CHUNK):
        stop = min(start + _CHUNK, send.count)
        data = _input(call, rank, world_size).part(start, stop)
        send.memory.write(send.offset + start * itemsize, data.view(np.uint8))


def count_wrong(buffers: Buffers, call: Call, rank: int, world_size: int) -> int:
    """Return how many elements of the receive buffer differ from the exact result, in any bit."""
    recv, wrong = buffers.recv, 0
    itemsize = dtype_of(call.dtype).itemsize
    word = np.dtype(f"u{itemsize}")
    for start in range(0, recv.count, _CHUNK):
        stop = min(start + _CHUNK, recv.count)
        seen = recv.memory.read(recv.offset + start * itemsize, (stop - start) * itemsize).view(word)
        expected = _result(call, rank, world_size, start=start, stop=stop, count=recv.count).view(word)
        if not np.array_equal(seen, expected):
            wrong += int(np.count_nonzero(seen != expected))
    return wrong


class _Periodic:
    """An endless array that repeats itself, of which any chunk can be had without computing it."""

    def __init__(self, period: Array) -> None:
        self._length = len(period)
        self._ready = np.resize(period, self._length + _CHUNK)

    def part(self, start: int, stop: int) -> Array:
        """Return elements start to stop, at most a chunk."""
        first = start % self._length
        return self._ready[first : first + stop - start]


def _period(world_size: int) -> int:
    return 4096 * (world_size + 1)


def _integers(reduces: bool, redop: str, rank: int, world_size: int) -> Array:
    """Return one period of `rank`'s input, as int64."""
    index = np.arange(_period(world_size), dtype=np.int64)
    if reduces and redop == "prod":
        return np.where(index % (world_size + 1) == rank, 2, 1)  # at most one rank has a 2
    values: Array = (index * 7 + rank * 5 + (index >> 8)) % 16
    return values * world_size if reduces and redop == "avg" else values


@lru_cache(maxsize=32)
def _inputs(reduces: bool, redop: str, dtype: str, rank: int, world_size: int) -> _Periodic:
    return _Periodic(_integers(reduces, redop, rank, world_size).astype(dtype_of(dtype)))


def _input(call: Call, rank: int, world_size: int) -> _Periodic:
    return _inputs(call.op.reduces, call.redop, call.dtype, rank, world_size)


@lru_cache(maxsize=4)
def _reduced(redop: str, dtype: str, world_size: int) -> _Periodic:
    """Return what the ranks' inputs are combined to."""
    inputs = [_integers(True, redop, rank, world_size) for rank in range(world_size)]
    return _Periodic(combine(inputs, redop, dtype_of(dtype)))


def _result(call: Call, rank: int, world_size: int, *, start: int, stop: int, count: int) -> Array:
    """Return elements start to stop of the receive buffer of `count` elements."""
    parts, position = [], 0
    for source, begin, length in pieces(call.op, rank, world_size, count, call.root, call.rows):
        first, last = max(start, position) - position, min(stop, position + length) - position
        if first < last:
            whole = (
                _reduced(call.redop, call.dtype, world_size)
                if source is None
                else (_input(call, source, world_size))
            )
            parts.append(whole.part(begin + first, begin + last))
        position += length
        if position >= stop:
            break
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
