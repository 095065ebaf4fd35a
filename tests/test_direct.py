"""Collectives in registered memory: the direct kernels give the oracle's bits, wherever the buffers lie."""

from __future__ import annotations

import contextlib
import itertools
import logging

import cases
import numpy as np
import oracle
import pytest
from cases import Case, random_case
from harness import worlds
from plans import PACK, make_plan
from slabs import SLABS

from hipcomm.core import ffi
from hipcomm.errors import CallMismatch, PeerTimeout
from hipcomm.memory.peers import read_memory, write_memory
from hipcomm.plan import ALGORITHMS as NUMBERS

DIRECT = {"algorithm": "direct"}
everywhere = pytest.mark.parametrize("world", worlds(1, 2, 3, 4, 5, 6, 7, 8))
every_operation = pytest.mark.parametrize("operation", cases.DIRECT)


@contextlib.contextmanager
def registered_arena(comm):
    """The tests' memory, registered, and used from another offset on by each rank."""
    memory = cases.arena()
    base = memory._base
    comm.register(base, memory._end - base)
    memory._base += comm.rank * 3 * 4096
    try:
        yield
        memory._base = base
        comm.deregister(base)
    finally:
        memory._base = base


def run_registered(comm, rng, chosen, burst=8):
    with registered_arena(comm):
        return cases.run(comm, rng, chosen, burst)


def every_dtype_and_operation(comm, rng, operation, seed):
    shared = np.random.default_rng(seed)
    reduces = operation in ("all_reduce", "reduce_scatter")
    ops, kinds = (oracle.OPERATIONS, oracle.KINDS) if reduces else (("sum",), ("bits",))
    chosen = []
    for dtype, op, kind in itertools.product(oracle.ALL_DTYPES, ops, kinds):
        call = (seed, len(chosen))
        chosen.append(random_case(shared, comm.world_size, call, operation, dtype=dtype, op=op, kind=kind))
    return run_registered(comm, rng, chosen)


@everywhere
@every_operation
def test_every_dtype_and_operation(ranks, operation, world):
    ranks.world(world, **DIRECT).run(every_dtype_and_operation, operation, 11)


@pytest.mark.parametrize("world", worlds(12, 16))
@every_operation
def test_large_worlds(ranks, operation, world):
    ranks.world(world, **DIRECT).run(every_dtype_and_operation, operation, 12)


def every_size(comm, rng, operation, seed):
    """Around packs, shards, what all threads take in one turn, and twice that."""
    shared = np.random.default_rng(seed)
    plan = make_plan(
        operation, 1 << 30, comm.world_size, comm.device.arch, algorithm="direct", registered=True
    )
    turn = plan.blocks * plan.threads * 4 * PACK
    sizes = {
        0,
        PACK,
        comm.world_size * PACK,
        64 * PACK,
        turn,
        turn * comm.world_size,
        2 * turn * comm.world_size,
    }
    chosen = [
        random_case(
            shared,
            comm.world_size,
            (seed, size, more + 1),
            operation,
            dtype="bfloat16",
            count=size // 2 + more,
            **(
                {} if operation in cases.COLLECTIVES else {"rows": 2 if operation == "all_gather_rows" else 1}
            ),
        )
        for size in sorted(sizes)
        for more in (-1, 0, 1, 7)
        if size // 2 + more >= 0 and size * comm.world_size < 8 << 20
    ]
    return run_registered(comm, rng, chosen, burst=1)


@pytest.mark.parametrize("world", worlds(2, 3, 8))
@every_operation
def test_every_size(ranks, operation, world):
    assert min(ranks.world(world, **DIRECT).run(every_size, operation, 13)) > 8


def every_alignment(comm, rng, operation, seed):
    shared = np.random.default_rng(seed)
    chosen = [
        random_case(shared, comm.world_size, (seed, *offsets), operation, offsets=offsets)
        for offsets in itertools.product(range(16), range(0, 16, 3))
    ]
    return run_registered(comm, rng, chosen, burst=32)


@pytest.mark.parametrize("world", worlds(3))
@every_operation
def test_every_alignment(ranks, operation, world):
    ranks.world(world, **DIRECT).run(every_alignment, operation, 14)


def another_alignment_on_each_rank(comm, rng, operation):
    with registered_arena(comm):
        for call in range(16):
            own = ((call + comm.rank) % 16, (3 * call + 5 * comm.rank) % 16)
            if operation in cases.COLLECTIVES:
                case = Case(operation, 777, "float32", offsets=own, kind="plain", seed=(15, call))
            else:
                rows = 1 + call % 3 if operation in ("reduce_scatter", "all_gather_rows") else 1
                case = Case(operation, 77, "float32", offsets=own, seed=(15, call), rows=rows)
            made = cases.make(comm, cases.arena(), case)
            comm.synchronize()
            made.check(comm)


@pytest.mark.parametrize("world", worlds(2, 4))
@every_operation
def test_another_alignment_on_each_rank(ranks, operation, world):
    ranks.world(world, **DIRECT).run(another_alignment_on_each_rank, operation)


def mixed(comm, rng, calls, seed):
    """Registered and unregistered buffers, all operations, small and large, back to back."""
    shared = np.random.default_rng(seed)
    inside = comm.empty(1 << 20, "uint8")
    outside = cases.Arena(1 << 20)
    arenas = [cases.Arena.at(inside.data_ptr, inside.nbytes), outside]
    for _ in range(calls // 8):
        made = []
        for call in range(8):
            operation = oracle.pick(shared, cases.OPERATIONS)
            count = int(shared.integers(0, 200 if shared.random() < 0.5 else 6000 // comm.world_size))
            if operation in cases.IN_PARTS:
                count //= comm.world_size
            case = random_case(shared, comm.world_size, (seed, call), operation, count=count)
            cases.skew(rng)
            made.append(cases.make(comm, arenas[int(shared.integers(2))], case))
        comm.synchronize()
        for each in made:
            each.check(comm)
        for each in arenas:
            each.reset()
    inside.free()


@pytest.mark.parametrize("world", worlds(2, 3, 4, 8))
@pytest.mark.parametrize("algorithm", ("auto", "direct"))
def test_mixed(ranks, algorithm, world):
    ranks.world(world, algorithm=algorithm).run(mixed, 1200 if world < 8 else 400, 16)


def across_the_end(comm, rng):
    """A buffer that lies only partly in a region is not registered, and comes out right all the same."""
    memory = cases.arena()
    base, size = memory._base, 1 << 20
    comm.register(base, size)
    for start in (size - 4096, size - 16, size, size + 16):
        for _ in range(2):
            memory.reset()
            memory._next = base + start - 1024
            case = Case("all_reduce", 1024, in_place=True, kind="plain", seed=(17, start))
            made = cases.make(comm, memory, case)
            comm.synchronize()
            made.check(comm)
    comm.deregister(base)


@pytest.mark.parametrize("world", worlds(2, 3))
def test_across_the_end_of_a_region(ranks, world):
    ranks.world(world, **DIRECT).run(across_the_end)


# ---- a buffer that is registered on some ranks only --------------------------------------------------------


def registered_here_only(comm, rng, odd_one, count):
    """All ranks pass registered memory but one. Returns the error of that call, and of the next."""
    inside = comm.empty(count, "float32")
    memory = cases.arena()
    outside = memory.region(4 * count)
    address = outside.address if comm.rank == odd_one else inside.data_ptr
    comm.barrier()
    comm.synchronize()
    try:
        comm.all_reduce(address, address, count=count, dtype="float32")
        comm.synchronize()
    except CallMismatch as error:
        text = str(error)
    try:
        comm.barrier()
    except CallMismatch as error:
        return text, str(error)
    raise AssertionError("a communicator that has failed went on")


@pytest.mark.parametrize("world", worlds(2, 3, 4))
@pytest.mark.parametrize("count", (4 << 10, 64 << 10, 1 << 20))
def test_registered_on_some_ranks_only(own_ranks, world, count):
    """The size decides which kernel the direct one meets: two-shot says nothing by signals. The ranks find
    out for themselves: had they waited for the time-out, the error would be another."""
    odd_one = world - 1
    job = own_ranks.world(world, timeout=100, **DIRECT)
    results = job.run(registered_here_only, odd_one, count)
    for rank, (first, second) in enumerate(results):
        for text in (first, second):
            other = f"direct on rank {rank}" if rank == odd_one else f"on rank {odd_one}"
            assert "all_reduce" in text and "differ" in text and (rank == odd_one or other in text)
    own_ranks.end()


# ---- when it is chosen ------------------------------------------------------------------------------------


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def algorithms_that_ran(comm, rng, count):
    """What HIPCOMM_LOG=debug says of each operation's calls, in registered memory and in other."""
    handler = Lines()
    logging.getLogger("hipcomm").addHandler(handler)
    ran = {}
    for registered in (True, False):
        arena = registered_arena(comm) if registered else contextlib.nullcontext()
        with arena:
            for operation in cases.OPERATIONS:
                handler.lines.clear()
                case = random_case(
                    np.random.default_rng(18), comm.world_size, (18,), operation, count=count, dtype="int32"
                )
                cases.run(comm, rng, [case])
                ran[operation, registered] = ["direct" in line for line in handler.lines]
    logging.getLogger("hipcomm").removeHandler(handler)
    return ran


@pytest.mark.parametrize("world", worlds(3))
def test_calls_in_registered_memory_are_direct(own_ranks, world):
    """Those of the operations that have such an algorithm, and no others."""
    for ran in own_ranks.world(world, log="debug", **DIRECT).run(algorithms_that_ran, 40_000):
        for (operation, registered), direct in ran.items():
            assert direct == [registered and operation in cases.DIRECT], (operation, registered)
    own_ranks.end()


def test_registered_is_agreed_by_the_plan():
    for arch in ("x86_64", "gfx942"):  # on sm_90 some operations never take it
        for world in (2, 4, 8):
            for operation in cases.DIRECT:
                smallest = next(
                    nbytes
                    for nbytes in (1 << n for n in range(40))
                    if make_plan(operation, nbytes, world, arch, registered=True).algorithm == "direct"
                )
                assert make_plan(operation, smallest - 1, world, arch, registered=True).algorithm != "direct"
                assert make_plan(operation, smallest, world, arch).algorithm != "direct"
            for operation in ("reduce", "gather", "scatter", "all_to_all_v", "barrier"):
                for algorithm in ("auto", "direct"):
                    plan = make_plan(operation, 1 << 30, world, arch, algorithm=algorithm, registered=True)
                    assert plan.algorithm not in ("auto", "direct")


# ---- a peer that is held up inside -------------------------------------------------------------------------

ENTERED, LEAVING = 0, 1  # phases of a direct kernel


def _slot(comm, rank, epoch, phase, sender):
    """Where block 0 of *sender* leaves word for *rank*."""
    slab = int(ffi.cast("uintptr_t", comm._session._slabs.control[rank]))
    slot = phase * SLABS["MAX_RANKS"] + sender
    place = epoch % 2 * SLABS["SIGNALS_BYTES_PER_PARITY"] + slot * SLABS["SIGNAL_BYTES"]
    return slab + SLABS["SIGNALS_OFFSET"] + place


def wait_for_a_peer_inside(comm, rng, operation):
    """Rank 1 writes rank 0's entry itself, and so waits in vain for rank 0 to leave. What rank 0 would find
    of rank 1's leaving: whether it is of this call, and how many steps it says."""
    array = comm.empty(8192, "float32")

    def make_call():
        if operation == "all_reduce":
            comm.all_reduce(array.data_ptr, array.data_ptr + 4096, count=256, dtype="float32")
        else:
            comm.broadcast(array.data_ptr, 1, count=256, dtype="float32")
        comm.synchronize()

    for _ in range(2):  # to have a call after the wipe of the first epochs, for its hash in the signals
        comm.barrier()
        make_call()
    comm.barrier()
    comm.synchronize()
    if comm.rank == 0:
        return None
    epoch = int.from_bytes(read_memory(_slot(comm, 1, 0, 0, 0) - SLABS["SIGNALS_OFFSET"], 4), "little")
    region = 0  # the first that was registered
    entered = int.from_bytes(read_memory(_slot(comm, 1, epoch - 2, ENTERED, 0), 8), "little")
    call_hash = entered >> SLABS["SIGNAL_FLAG_SHIFT"] >> SLABS["FLAG_EPOCH_BITS"]
    flag = call_hash << SLABS["FLAG_EPOCH_BITS"] | epoch
    signal = flag << SLABS["SIGNAL_FLAG_SHIFT"] | NUMBERS["direct"] << SLABS["SIGNAL_ALGORITHM_SHIFT"] | 1
    place = region << SLABS["PLACE_OFFSET_BITS"]
    words = np.array([signal, place, place | 4096], np.uint64)
    write_memory(_slot(comm, 1, epoch, ENTERED, 0), words.tobytes())
    with pytest.raises(PeerTimeout):
        make_call()
    left = int.from_bytes(read_memory(_slot(comm, 0, epoch, LEAVING, 1), 8), "little")
    return left >> SLABS["SIGNAL_FLAG_SHIFT"] == flag, left & SLABS["SIGNAL_STEPS_MASK"]


@pytest.mark.parametrize("operation", ("all_reduce", "broadcast"))
@pytest.mark.parametrize("world", worlds(2))
def test_who_gives_up_lets_no_peer_leave(own_ranks, world, operation):
    """A peer that is held up longer than the time-out may go on to read what has changed since; it must not
    find that all ranks are done, and take what it has read for good."""
    found = own_ranks.world(world, **DIRECT, timeout=0.4).run(wait_for_a_peer_inside, operation)
    assert found[1] == (True, 0)
