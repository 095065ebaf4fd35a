"""comm.plan() and the log of calls: what is shown is what is run."""

from __future__ import annotations

import logging

import cases
import numpy as np
import pytest
from harness import worlds

import hipcomm
from hipcomm.plan import Plan

NAMES = ("barrier", *cases.OPERATIONS)


def plans(comm, rng):
    sizes = (0, 1, 1 << 10, 1 << 20, 1 << 30)
    return {(name, nbytes): tuple(comm.plan(name, nbytes, "bfloat16")) for name in NAMES for nbytes in sizes}


@pytest.mark.parametrize("world", worlds(1, 3))
def test_all_ranks_have_the_same_plans(ranks, world):
    first, *others = ranks.world(world).run(plans)
    assert all(other == first for other in others)
    for (name, nbytes), values in first.items():
        plan = Plan(*values)
        if world == 1:
            assert plan == Plan("copy", "", 0, 0, 0, 0)
        elif nbytes == 0 and name not in ("barrier", "all_to_all_v"):
            assert plan == Plan("none", "", 0, 0, 0, 0)
        else:
            assert plan.kernel.startswith("hipcomm_") and plan.grid >= 1 and plan.block >= 1
            part = -(-nbytes // world) if name == "reduce" and plan.algorithm == "pipelined" else nbytes
            assert (plan.chunks - 1) * plan.chunk_bytes < max(part, 1) <= plan.chunks * plan.chunk_bytes


def plan_of_registered(comm, rng):
    return comm.plan("all_reduce", 4 << 20), comm.plan("all_reduce", 4 << 20, registered=True)


@pytest.mark.parametrize("world", worlds(2))
def test_registered_memory_has_its_plan(ranks, world):
    for staged, direct in ranks.world(world).run(plan_of_registered):
        assert staged.algorithm != "direct" and direct.algorithm == "direct"
        assert direct.kernel == "hipcomm_all_reduce_direct_sum_float32" and direct.chunks == 1


def refused(comm, rng):
    for arguments in (
        ("all_reduces", 1),
        ("all_reduce", -1),
        ("all_reduce", 1.5),
        ("all_reduce", 1, "int16"),
        ("reduce", 1, "int8", "mean"),
    ):
        with pytest.raises(hipcomm.InvalidArgument):
            comm.plan(*arguments)


@pytest.mark.parametrize("world", worlds(1))
def test_no_such_call(ranks, world):
    ranks.world(world).run(refused)


class Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def logged_calls(comm, rng):
    handler = Lines()
    logging.getLogger("hipcomm").addHandler(handler)
    try:
        buffer = cases.arena().region(4000)
        buffer.put(np.zeros(1000, np.float32))
        comm.all_reduce(buffer.address, buffer.address, count=1000, dtype="float32")
        comm.reduce(buffer.address, root=1, op="max", count=1000, dtype="float32")
    finally:
        logging.getLogger("hipcomm").removeHandler(handler)
    return handler.lines, comm.plan("all_reduce", 4000), comm.plan("reduce", 4000, op="max")


@pytest.mark.parametrize("world", worlds(2))
def test_log_of_calls(own_ranks, world):
    for rank, (lines, first, second) in enumerate(own_ranks.world(world, log="debug").run(logged_calls)):
        assert len(lines) == 2
        for line, operation, op, plan in (
            (lines[0], "all_reduce", "sum", first),
            (lines[1], "reduce", "max", second),
        ):
            assert line.startswith(
                f"rank {rank}: {operation} of 4000 bytes, float32, {op}: {plan.algorithm}, {plan.kernel}, "
            )
            assert f"{plan.grid} blocks of {plan.block} threads" in line


@pytest.mark.parametrize("world", worlds(2))
def test_no_log_by_default(own_ranks, world):
    assert [lines for lines, _, _ in own_ranks.world(world).run(logged_calls)] == [[]] * world
