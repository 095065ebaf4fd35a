"""The same seeded calls on two platforms, and where the bits that came of them differ.

The numbers contract makes the CPU platform the oracle for the GPUs: same inputs, same bits. Each platform has
ranks of its own, since a process drives one platform; what they return is compared here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import cases
import numpy as np
import oracle
from cases import COLLECTIVES, MOVEMENTS, OPERATIONS, REDUCING, Case, random_case
from harness import RankPool
from regions import Arena

MEDIUM, LARGE = 20_011, 700_003  # elements of all ranks together: beyond the small messages' algorithms
SYMMETRIC = 64 << 20  # bytes

Outcome = tuple[str, list[bytes]]  # the call in words, and its buffers' contents afterwards


def chosen(world: int, seed: int, sizes: tuple[int, ...] = (MEDIUM, LARGE)) -> Iterator[Case]:
    """Every collective, dtype, reduction and kind of number in small messages, and some of all *sizes*."""
    shared = np.random.default_rng(seed)
    number = itertools.count()

    def case(operation: str, **fixed: Any) -> Case:
        return random_case(shared, world, (seed, next(number)), operation, **fixed)

    for dtype in oracle.ALL_DTYPES:
        for operation, op, kind in itertools.product(REDUCING, oracle.OPERATIONS, oracle.KINDS):
            yield case(operation, dtype=dtype, op=op, kind=kind)
        for operation in (*COLLECTIVES[1:], *MOVEMENTS):
            yield case(operation, dtype=dtype)
    for elements, dtype in itertools.product(sizes, ("bfloat16", "float32", "uint8")):
        for operation in OPERATIONS:
            count = elements if operation in ("all_reduce", "broadcast") else elements // world
            yield case(operation, dtype=dtype, kind="plain", count=count)


def outcomes(
    comm: Any, rng: np.random.Generator, seed: int, sizes: tuple[int, ...], symmetric: bool
) -> list[Outcome]:
    """Make all calls, in symmetric memory if asked for; what every buffer held afterwards."""
    array = comm.empty(SYMMETRIC, "uint8") if symmetric else None
    memory = cases.arena() if array is None else Arena.at(array.data_ptr, array.nbytes)
    found = []
    for case in chosen(comm.world_size, seed, sizes):
        memory.reset()
        made = cases.make(comm, memory, case)
        comm.synchronize()
        dtype = oracle.dtype_of(case.dtype)
        found.append((str(case), [_image(region.get(dtype), case) for region in made.regions]))
    if array is not None:
        array.free()
    return found


def _image(data: oracle.Array, case: Case) -> bytes:
    """The bits that the contract specifies: all, but for the payload of a NaN that was computed."""
    if case.operation in REDUCING and oracle.is_float(data.dtype):
        data[np.isnan(data)] = np.nan
    return data.tobytes()


def on_platform(
    platform: str, world: int, algorithm: str, seed: int, sizes: tuple[int, ...] = (MEDIUM, LARGE)
) -> list[list[Outcome]]:
    """The outcomes on each rank of a world on this platform. Raises RanksFailed."""
    pool = RankPool()
    try:
        group = pool.world(world, platform=platform, algorithm=algorithm)
        found: list[list[Outcome]] = group.run(outcomes, seed, sizes, algorithm == "direct")
    finally:
        pool.end()
    return found


def differences(expected: list[list[Outcome]], got: list[list[Outcome]]) -> list[str]:
    """Which calls came out differently on which rank."""
    assert len(expected) == len(got)
    wrong = []
    for rank, (ours, theirs) in enumerate(zip(expected, got, strict=True)):
        for (call, images), (other, other_images) in zip(ours, theirs, strict=True):
            assert call == other, "these are not the same calls"
            for number, (a, b) in enumerate(zip(images, other_images, strict=True)):
                if a != b:
                    wrong.append(f"rank {rank}, buffer {number} of {call}: {_first_difference(a, b)}")
    return wrong


def _first_difference(expected: bytes, got: bytes) -> str:
    if len(expected) != len(got):
        return f"{len(got)} bytes instead of {len(expected)}"
    unlike = np.flatnonzero(np.frombuffer(expected, np.uint8) != np.frombuffer(got, np.uint8))
    first = int(unlike[0])
    return f"{unlike.size} of {len(got)} bytes, the first is {got[first]:#x} instead of {expected[first]:#x}"
