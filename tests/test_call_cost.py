"""What a call asks of HIP: its launch, and nothing else. No allocation, no copy and no registration, whatever
the operation, eager or captured; and the check of calls costs nothing while it is off."""

from __future__ import annotations

import numpy as np
import pytest
from cases import OPERATIONS, Made, random_case
from counting import ASK, LAUNCH, Counted
from harness import worlds
from regions import Arena

from hipcomm.hip import call, hip

COUNT = 3000  # elements: one launch of any algorithm carries them


def calls_of_every_operation(comm, rng, directory):
    """{(operation, in registered memory): (HIP calls of an eager call, of a captured one)}"""
    counted = Counted(comm, directory)
    part = counted.comm
    stream = call("hipStreamCreateWithFlags", hip().hipStreamNonBlocking)
    counted.barrier(stream)
    symmetric = part.empty(4 << 20, "uint8")
    found = {}
    for memory, inside in ((Arena(4 << 20), False), (Arena.at(symmetric.data_ptr, symmetric.nbytes), True)):
        for number, operation in enumerate(OPERATIONS):
            shared, seed = np.random.default_rng(number), (71, number)
            case = random_case(shared, part.world_size, seed, operation, count=COUNT, dtype="float32")
            made = Made(part, memory, case)
            made.fill(1)
            call("hipDeviceSynchronize")
            eager = counted.calls_of(lambda made=made: made.make(stream))
            part.synchronize(stream=stream)
            made.check(part)
            found[operation, inside] = eager, counted.captured(stream, lambda made=made: made.make(stream))
            memory.reset()
    part.close()
    return found


@pytest.mark.parametrize("world", worlds(2, 3))
@pytest.mark.parametrize("algorithm", ("auto", "one_shot", "staged", "pipelined"))
def test_a_call_is_a_launch(ranks, algorithm, world, shim_source):
    for found in ranks.world(world, algorithm=algorithm).run(calls_of_every_operation, shim_source):
        assert len(found) == 2 * len(OPERATIONS)
        for what, (eager, captured) in found.items():
            assert eager == [LAUNCH], what
            assert [name for name in captured if name != ASK] == [LAUNCH], what


@pytest.mark.parametrize("world", worlds(2))
def test_a_checked_call_costs_another_launch(ranks, world, shim_source):
    for found in ranks.world(world, check=True).run(calls_of_every_operation, shim_source):
        for what, (eager, captured) in found.items():
            assert eager.count(LAUNCH) == 2, what
            assert [name for name in captured if name != ASK] == [LAUNCH, LAUNCH], what
