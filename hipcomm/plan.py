"""How a call would be run: the launch plan, in Python."""

from __future__ import annotations

from typing import Any, NamedTuple

from hipcomm.core import ffi, lib, numbers

# Names of the operations, algorithms and reductions, and the core's numbers for them.
OPERATIONS = numbers(lib.hipcommOperationName, lib.hipcommNumOperations)
ALGORITHMS = numbers(lib.hipcommAlgorithmName, lib.hipcommNumAlgorithms)
REDUCTIONS = numbers(lib.hipcommRedOpName, lib.hipcommNumRedOps)


class Operation(NamedTuple):
    """A row of ``hipcomm/abi/operations.def``, which says what the columns mean."""

    name: str
    bytes: str
    sent: str
    received: str
    in_place: str
    root: str
    reduces: bool
    reads: bool
    writes: bool
    family: str
    compared: str


def _row(number: int) -> Operation:
    info = ffi.new("hipcommOperationInfo *")
    lib.hipcommGetOperationInfo(number, info)
    columns: list[Any] = [getattr(info, field) for field in Operation._fields]
    row: list[Any] = [bool(c) if isinstance(c, int) else ffi.string(c).decode() for c in columns]
    return Operation(*row)


TABLE_OF_OPERATIONS = {name: _row(number) for name, number in OPERATIONS.items()}


def algorithm_name(number: int) -> str:
    """The core's name of an algorithm, by its number."""
    return str(ffi.string(lib.hipcommAlgorithmName(number)).decode())


class Plan(NamedTuple):
    """How a call is run. The same on all ranks, since it follows from what all ranks know.

    Attributes:
        algorithm: "one_shot", "two_shot", "staged", "pipelined", "direct", or "copy" in a world of one;
            "none" where there is nothing to move.
        kernel: the kernel's name; empty where none is launched.
        grid: blocks of a launch.
        block: threads of a block.
        chunks: pieces that the message is cut into: launches of a flag-in-data algorithm, or chunks that the
            blocks take through the staging slab.
        chunk_bytes: bytes of a piece; the last ones may be shorter.
        link_bytes: of norms: bytes that the rank with the most rows sends over its links, or that others read
            there; of other operations 0.
    """

    algorithm: str
    kernel: str
    grid: int
    block: int
    chunks: int
    chunk_bytes: int
    link_bytes: int = 0


def describe(plan: Any, nbytes: int, operation: str, world_size: int) -> Plan:
    """A ``hipcommPlan *`` of the core in words."""
    name = algorithm_name(plan.algorithm)
    if plan.kernel < 0:
        return Plan(name if name == "copy" else "none", "", 0, 0, 0, 0)
    file, kernel = ffi.new("const char **"), ffi.new("const char **")
    lib.hipcommKernelInfo(plan.kernel, file, kernel)
    if operation == "reduce" and plan.chunk_packs:  # each rank has a part of the message to reduce
        nbytes = -(-nbytes // world_size)
    piece = int(plan.chunk_packs) * lib.HIPCOMM_PACK_BYTES or min(int(plan.bytes_per_launch), max(nbytes, 1))
    chunks = max(1, -(-nbytes // piece))
    return Plan(
        name,
        ffi.string(kernel[0]).decode(),
        plan.blocks,
        plan.threads,
        chunks,
        piece,
        int(plan.link_bytes),
    )
