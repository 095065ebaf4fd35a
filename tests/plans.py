"""Launch plans, asked of the C core without a device, and the message sizes at which they change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import oracle

from hipcomm.buffers.dtypes import CODES
from hipcomm.core import ffi, lib
from hipcomm.plan import ALGORITHMS as _NUMBERS
from hipcomm.plan import OPERATIONS as ALL_OPERATIONS
from hipcomm.plan import REDUCTIONS

ALGORITHMS = tuple(_NUMBERS)
# norms are planned by rows: test_norm_plan.py
OPERATIONS = {
    name: number for name, number in ALL_OPERATIONS.items() if not name.endswith(("_norm", "_tokens"))
}
PACK = 16  # bytes
NO_LIMIT = 2**64 - 1


class Plan(NamedTuple):
    """hipcommPlan."""

    algorithm: str
    kernel: int
    blocks: int
    threads: int
    shared_bytes: int
    unit_bytes: int
    line_packs: int
    tile_shift: int
    chunk_packs: int
    line_bytes: int
    bytes_per_launch: int


def make_plan(
    operation: str,
    nbytes: int,
    world: int,
    arch: str,
    *,
    dtype: str = "float32",
    op: str = "sum",
    algorithm: str = "auto",
    max_blocks: int = 0,
    staging_bytes: int = 0,
    registered: bool = False,
) -> Plan:
    """hipcommMakePlan. Raises ValueError where the core refuses the request."""
    request: Any = ffi.new("hipcommPlanRequest *")
    name = ffi.new("char[]", arch.encode())
    request.operation, request.bytes, request.world, request.arch = OPERATIONS[operation], nbytes, world, name
    request.dtype, request.op = CODES[oracle.dtype_of(dtype)], REDUCTIONS[op]
    request.algorithm = ALGORITHMS.index(algorithm)
    request.max_blocks, request.staging_bytes = max_blocks, staging_bytes
    request.registered = registered
    plan: Any = ffi.new("hipcommPlan *")
    if lib.hipcommMakePlan(request, plan) != lib.hipcommSuccess:
        raise ValueError("hipcommMakePlan refuses the request")
    return Plan(ALGORITHMS[plan.algorithm], *(getattr(plan, field) for field in Plan._fields[1:]))


def boundary_sizes(
    operation: str, world: int, arch: str, algorithm: str, max_blocks: int, staging_bytes: int = 0
) -> list[int]:
    """Message sizes in bytes at which a forced algorithm begins something new: a pack, a shard, a tile,
    a block, a launch, a chunk, a turn of the ring; up to a few of each."""

    def plan_of(nbytes: int) -> Plan:
        settings = {"algorithm": algorithm, "max_blocks": max_blocks, "staging_bytes": staging_bytes}
        return make_plan(operation, nbytes, world, arch, **settings)

    def first_with(is_so: Callable[[Plan], bool]) -> int:
        without, size = PACK, 1 << 32
        while size - without > 1:
            middle = (without + size) // 2
            without, size = (without, middle) if is_so(plan_of(middle)) else (middle, size)
        return size

    sizes = {0, PACK, PACK * world, PACK * (world + 1)}
    huge = plan_of(1 << 32)
    tile = PACK * max(1, huge.line_packs) << huge.tile_shift
    sizes |= {tile, 2 * tile, tile * world, tile * (world + 1)}
    if unit := huge.unit_bytes or plan_of(PACK).unit_bytes:  # a block's units, and those of all blocks
        block = unit * plan_of(PACK).threads
        sizes |= {unit, unit + PACK, block, block + unit, huge.unit_bytes * huge.threads * huge.blocks + unit}
    if huge.line_packs > plan_of(PACK).line_packs:  # wide lines: from where on, their last line, a tile
        wide = first_with(lambda plan: plan.line_packs > 1)
        sizes |= {wide - 1, wide, wide + PACK, wide + 2 * PACK, wide + tile, wide + tile * world}
    if huge.bytes_per_launch != NO_LIMIT:
        sizes |= {huge.bytes_per_launch, 2 * huge.bytes_per_launch}
    if algorithm == "staged" and huge.chunk_packs:
        sizes.add(3 * huge.bytes_per_launch)  # in the first launch's half of the staging slab again
        if huge.blocks > 1:
            numbers = {2, min(3, huge.blocks), huge.blocks}
            sizes |= {first_with(lambda plan, least=least: plan.blocks >= least) for least in numbers}
    elif huge.chunk_packs:
        one_chunk = plan_of(PACK).chunk_packs * PACK  # of a message that is too small for several blocks
        round_of_chunks = huge.chunk_packs * huge.blocks * PACK
        rounds = (1, 2, 3, 4, 5, 9) if round_of_chunks <= 1 << 20 else (1, 2, 3)  # the oracle is slow
        sizes |= {one_chunk, 2 * one_chunk, *(number * round_of_chunks for number in rounds)}
    return sorted(sizes)
