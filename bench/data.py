"""What the buffers hold: inputs whose results are exact in every dtype, and the count of wrong results.

Element i of rank r is a small whole number that depends on both, so a result that misses a rank, counts
one twice, or lands in the wrong place, is seen. Sums stay small enough to be exact even in bfloat16, so a
result is right or wrong, whatever the order of the additions; there is no tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hipcomm_bench.ops import Call

REDOPS = ("sum", "avg", "max", "min", "prod")
DTYPES = ("float16", "bfloat16", "float32", "float64", "int8", "uint8", "int32", "uint32", "int64", "uint64")

# Results are checked piece by piece, so that the check needs little memory besides the buffers.
_CHUNK = 1 << 20

_REDUCTIONS = {"sum": np.add, "max": np.maximum, "min": np.minimum, "prod": np.multiply}

Array = NDArray[Any]


def dtype_of(name: str) -> np.dtype[Any]:
    """Return the NumPy dtype called `name`; bfloat16 is ml_dtypes'."""
    if name == "bfloat16":
        import ml_dtypes

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(name)


@dataclass(frozen=True)
class Buffers:
    """One rank's buffers for one call. In place, the smaller is a part of the larger, or both are one."""

    send: Array
    recv: Array


def allocate(call: Call, size: int, rank: int, world_size: int) -> Buffers:
    """Return one rank's buffers for a message of `size` bytes, in memory that NumPy allocates."""
    dtype = dtype_of(call.dtype)
    send_count, recv_count = call.op.elements(size, dtype.itemsize, world_size)
    whole = np.empty(max(send_count, recv_count), dtype)
    if not call.in_place:
        return Buffers(send=np.empty(send_count, dtype), recv=np.empty(recv_count, dtype))
    send_at = rank * send_count if call.op.send_shares else 0
    recv_at = rank * recv_count if call.op.recv_shares else 0
    return Buffers(send=whole[send_at : send_at + send_count], recv=whole[recv_at : recv_at + recv_count])


def fill(buffers: Buffers, call: Call, rank: int, world_size: int) -> None:
    """Write this rank's input into the send buffer, after filling the receive buffer with other values."""
    buffers.recv.view(np.uint8)[...] = 0xA5
    for start in range(0, len(buffers.send), _CHUNK):
        stop = min(start + _CHUNK, len(buffers.send))
        buffers.send[start:stop] = _input(call, rank, world_size, start, stop).astype(buffers.send.dtype)


def count_wrong(buffers: Buffers, call: Call, rank: int, world_size: int) -> int:
    """Return how many elements of the receive buffer differ from the exact result."""
    wrong = 0
    for start in range(0, len(buffers.recv), _CHUNK):
        stop = min(start + _CHUNK, len(buffers.recv))
        expected = _result(call, rank, world_size, start=start, stop=stop, count=len(buffers.recv))
        wrong += int(np.count_nonzero(buffers.recv[start:stop] != expected))
    return wrong


def _input(call: Call, rank: int, world_size: int, start: int, stop: int) -> Array:
    """Return elements start to stop of `rank`'s send buffer, as int64."""
    index = np.arange(start, stop, dtype=np.int64)
    if call.op.reduces and call.redop == "prod":
        return np.where(index % (world_size + 1) == rank, 2, 1)  # at most one rank has a 2
    values: Array = (index * 7 + rank * 5 + (index >> 8)) % 16
    return values * world_size if call.op.reduces and call.redop == "avg" else values


def _result(call: Call, rank: int, world_size: int, *, start: int, stop: int, count: int) -> Array:
    """Return elements start to stop of the receive buffer of `count` elements, in the call's dtype."""
    dtype = dtype_of(call.dtype)

    def reduced(start: int, stop: int) -> Array:
        inputs = np.stack([_input(call, r, world_size, start, stop) for r in range(world_size)])
        if call.redop != "avg":
            return np.asarray(_REDUCTIONS[call.redop].reduce(inputs, axis=0))
        total = inputs.sum(axis=0)
        if np.issubdtype(dtype, np.integer):  # the sum wraps before it is divided, toward zero
            total = total.astype(dtype).astype(np.int64)
        return np.asarray(np.sign(total) * (np.abs(total) // world_size))

    def gathered(offset: int, share: int) -> Array:
        """Lay shares of all ranks side by side, each from element `offset` of its rank's send buffer."""
        parts = []
        for r in range(start // share, (stop - 1) // share + 1):
            first, last = max(start, r * share) - r * share, min(stop, (r + 1) * share) - r * share
            parts.append(_input(call, r, world_size, offset + first, offset + last))
        return np.concatenate(parts)

    results: dict[str, Callable[[], Array]] = {
        "all_reduce": lambda: reduced(start, stop),
        "reduce_scatter": lambda: reduced(rank * count + start, rank * count + stop),
        "all_gather": lambda: gathered(0, count // world_size),
        "all_to_all": lambda: gathered(rank * (count // world_size), count // world_size),
        "broadcast": lambda: _input(call, 0, world_size, start, stop),
    }
    return np.asarray(results[call.op.name]().astype(dtype))
