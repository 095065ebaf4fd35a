"""HIPCOMM_CHECK=1: ranks whose calls differ all raise CallMismatch, with both calls and their number."""

from __future__ import annotations

import cases
import numpy as np
import oracle
import pytest
from cases import COLLECTIVES, IN_PARTS, Case, Made, random_case
from harness import worlds
from regions import DeviceArray

import hipcomm
from hipcomm.plan import TABLE_OF_OPERATIONS

WORLD = 3
pytestmark = pytest.mark.skipif(not worlds(WORLD), reason=f"needs {WORLD} devices")

# what rank 1 does, what the others do, and how each side is called in the message
MISMATCHES = {
    "operation": (("all_reduce", {}), ("barrier", {}), "all_reduce(count 8, float32, sum)", "barrier()"),
    "count": (("all_reduce", {}), ("all_reduce", {"count": 9}), "count 8,", "count 9,"),
    "nothing": (("all_reduce", {}), ("all_reduce", {"count": 0}), "count 8,", "count 0,"),
    "dtype": (("all_reduce", {}), ("all_reduce", {"dtype": "int32"}), "float32", "int32"),
    "reduction": (("all_reduce", {}), ("all_reduce", {"op": "max"}), "float32, sum)", "float32, max)"),
}

# What rank 1 does otherwise in any operation whose counts are compared, and how each side is called
ARGUMENTS = {"count": (8, 9), "dtype": ("float32", "int32"), "op": ("sum", "max"), "root": (0, 2)}
DIFFERENCES = [
    (row.name, argument)
    for row in TABLE_OF_OPERATIONS.values()
    if row.compared in ("Count", "CountAndRows") and row.bytes != "None" and row.name in cases.OF
    for argument in ARGUMENTS
    if (argument != "op" or row.reduces) and (argument != "root" or row.root != "None")
]


def call(comm, operation, count=8, dtype="float32", op="sum"):
    memory = cases.arena()
    send, recv = memory.region(4096).address, memory.region(4096).address
    where = {"count": count, "dtype": dtype}
    if operation == "barrier":
        comm.barrier()
    else:
        comm.all_reduce(send, recv, op, **where)


def message_of(body):
    with pytest.raises(hipcomm.CallMismatch) as caught:
        body()
    return str(caught.value)


def differ(comm, rng, name):
    ours, theirs, _, _ = MISMATCHES[name]
    for _ in range(3):
        call(comm, "all_reduce")
    operation, arguments = theirs if comm.rank == 1 else ours

    def wrong():
        call(comm, operation, **arguments)
        comm.synchronize()

    first = message_of(wrong)
    return first, message_of(lambda: call(comm, "barrier"))


@pytest.mark.parametrize("name", MISMATCHES)
def test_all_ranks_see_both_calls(own_ranks, name):
    world = own_ranks.world(WORLD, check=True)
    _, _, ours, theirs = MISMATCHES[name]
    for rank, (first, second) in enumerate(world.run(differ, name)):
        assert first.startswith(f"rank {rank}: call 4 differs between ranks: rank 0 calls "), first
        rank0, rank1 = first.split("rank 0 calls ")[1].split(", rank 1 calls ")
        assert ours in rank0 and theirs in rank1, first
        assert second == first  # a communicator that has failed stays failed


def argument_differs(comm, rng, operation, argument):
    ours, theirs = ARGUMENTS[argument]
    arguments = {"count": 8, "rows": 2 if operation == "all_gather_rows" else 1}
    arguments[argument] = theirs if comm.rank == 1 else ours
    made = Made(comm, cases.arena(), Case(operation, **arguments))

    def wrong():
        made.make()
        comm.synchronize()

    return message_of(wrong)


@pytest.mark.parametrize(("operation", "argument"), DIFFERENCES)
def test_one_rank_that_differs_is_found(own_ranks, operation, argument):
    """Whichever kernels run the operation: also where each pair of ranks has a segment of its own."""
    ours, theirs = ARGUMENTS[argument]
    if argument == "count":
        in_rows = operation == "all_gather_rows"
        ours, theirs = (
            ("count 16 in rows of 8,", "count 18 in rows of 9,") if in_rows else ("count 8,", "count 9,")
        )
    elif argument == "root":
        ours, theirs = f"root {ours})", f"root {theirs})"
    for rank, message in enumerate(
        own_ranks.world(WORLD, check=True).run(argument_differs, operation, argument)
    ):
        rank0, rank1 = message.split("rank 0 calls ")[1].split(", rank 1 calls ")
        assert rank0.startswith(f"{operation}(") and ours in rank0, message
        assert rank1.startswith(f"{operation}(") and theirs in rank1, message
        assert message.startswith(f"rank {rank}: call 1 differs between ranks: "), message


def shape_differs(comm, rng, operation):
    """As many elements on all ranks, in other rows on rank 1."""
    count, rows = (8, 3) if comm.rank == 1 else (12, 2)
    made = Made(comm, cases.arena(), Case(operation, count, rows=rows))

    def wrong():
        made.make()
        comm.synchronize()

    return message_of(wrong)


@pytest.mark.parametrize("operation", ("all_gather_rows", "reduce_scatter"))
def test_rows_that_differ_are_found(own_ranks, operation):
    for message in own_ranks.world(WORLD, check=True).run(shape_differs, operation):
        rank0, rank1 = message.split("rank 0 calls ")[1].split(", rank 1 calls ")
        assert f"{operation}(count 24 in rows of 12, float32" in rank0, message
        assert f"{operation}(count 24 in rows of 8, float32" in rank1, message


def norm_differs(comm, rng, argument):
    x, weight = np.ones((3, 8), np.float32), np.ones(8, np.float32)
    arguments = {"residual": None, "weight": weight, "eps": 1e-5, "out": np.empty_like(x)}
    if comm.rank == 1:
        arguments[argument] = {"residual": x.copy(), "weight": None, "eps": 1e-6, "weight_offset": 1.0}[
            argument
        ]
    return message_of(lambda: comm.all_reduce_rms_norm(x, **arguments))


@pytest.mark.host_arrays
@pytest.mark.parametrize("argument", ("residual", "weight", "eps", "weight_offset"))
def test_arguments_of_norms_that_differ_are_found(own_ranks, argument):
    for message in own_ranks.world(WORLD, check=True).run(norm_differs, argument):
        assert message.endswith(
            ", with other counts, or another eps, weight_offset, residual, weight, bias or output"
        )


def pair_differs(comm, rng):
    """Ranks 0 and 2 disagree on what 0 sends to 2; rank 1 has nothing to do with it."""
    memory = cases.arena()
    dtype = np.dtype(np.float32)
    send = DeviceArray(memory.region(4096).address, (64,), dtype)
    recv = DeviceArray(memory.region(4096).address, (64,), dtype)
    sent, received = [4, 4, 4], [4, 4, 4]
    if comm.rank == 0:
        sent[2] = 5

    def wrong():
        comm.all_to_all(send, recv, sent, received)
        comm.synchronize()

    return message_of(wrong)


def test_a_pair_that_disagrees_fails_all(own_ranks):
    for message in own_ranks.world(WORLD, check=True).run(pair_differs):
        assert "rank 0 calls all_to_all_v(20 bytes to the other, 16 bytes from it, float32)" in message
        assert "rank 2 calls all_to_all_v(16 bytes to the other, 16 bytes from it, float32)" in message


def checked_calls(comm, rng, seed, calls):
    shared = np.random.default_rng(seed)
    chosen = [
        random_case(shared, comm.world_size, (seed, number), oracle.pick(shared, IN_PARTS + COLLECTIVES))
        for number in range(calls)
    ]
    return cases.run(comm, rng, chosen)


@pytest.mark.parametrize("world", worlds(1, 2, 4))
def test_calls_that_match_work(ranks, world):
    assert ranks.world(world, check=True).run(checked_calls, 61, 300) == [300] * world
