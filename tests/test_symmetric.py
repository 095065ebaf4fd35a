"""Symmetric memory: allocating, freeing, registering, and how other libraries see the arrays."""

from __future__ import annotations

import gc
import itertools
import re
import sys
import time
import types

import cases
import numpy as np
import oracle
import pytest
from harness import worlds
from oracle import dtype_of
from regions import Region

import hipcomm
from hipcomm.buffers import dlpack, dlpack_export
from hipcomm.errors import InvalidArgument
from hipcomm.hip import call

_numbers = itertools.count(1000)


def fresh(ranks, world, **settings):
    """A world whose symmetric memory no other test has used: a setting of its own makes it another."""
    return ranks.world(world, join_timeout=next(_numbers), **settings)


some_worlds = pytest.mark.parametrize("world", worlds(1, 2, 3))


def reduce_in(comm, array, value):
    """Fill with value + rank, all-reduce in place, compare."""
    data = (np.arange(array.size) % 7 + value + comm.rank).astype(array.dtype).reshape(array.shape)
    array.from_host(data)
    comm.all_reduce(array)
    comm.synchronize()
    total = sum(data - comm.rank + rank for rank in range(comm.world_size))
    assert not oracle.difference(array.to_host().reshape(-1), total.astype(array.dtype).reshape(-1))


def attributes(comm, rng):
    for dtype in oracle.DTYPES:
        array = comm.empty((3, 5), dtype)
        assert (array.shape, array.dtype, array.size, array.ndim) == ((3, 5), dtype_of(dtype), 15, 2)
        assert array.nbytes == 15 * array.dtype.itemsize and len(array) == 3
        assert array.data_ptr % 512 == 0 and dtype in repr(array)
        data = oracle.make_input((1,), comm.rank, 15, array.dtype, "bits").reshape(3, 5)
        array.from_host(data)
        assert array.to_host().tobytes() == data.tobytes()
        array.free()
    assert comm.empty(4).dtype == np.float32
    assert comm.empty((), "int8").size == 1
    assert comm.empty((3, 0)).nbytes == 0
    for wrong in (np.zeros((5, 3), np.float32), np.zeros((3, 5), np.float64)):
        array = comm.empty((3, 5), "float32")
        with pytest.raises(InvalidArgument, match=r"\(3, 5\)"):
            array.from_host(wrong)


@some_worlds
def test_attributes(ranks, world):
    ranks.world(world).run(attributes)


def random_life(comm, rng, steps, seed):
    """Allocate, use and free at random; all ranks alike, each with delays of its own."""
    shared = np.random.default_rng(seed)
    held = []
    for step in range(steps):
        cases.skew(rng)
        if held and (len(held) > 12 or shared.random() < 0.4):
            held.pop(int(shared.integers(len(held)))).free()
            continue
        dtype = oracle.pick(shared, ("float32", "int64", "bfloat16", "uint8"))
        large = shared.random() < 0.1
        count = int(shared.integers(1 << 19 if large else 0, 3 << 19 if large else 5000))
        held.append(comm.empty(count, dtype))
        spans = sorted((array.data_ptr, array.data_ptr + array.nbytes) for array in held)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
        reduce_in(comm, held[int(shared.integers(len(held)))], step % 5)
    while held:
        held.pop().free()
    return comm._session.heap.nbytes


@pytest.mark.parametrize("world", worlds(1, 2, 4))
def test_random_life(ranks, world):
    left = fresh(ranks, world).run(random_life, 150, 2)
    assert len(set(left)) == 1 and left[0] <= 8 << 20  # one empty arena may stay


def freed_memory_is_used_again(comm, rng):
    first = comm.empty(1000)
    address = first.data_ptr
    comm.all_reduce(first)
    first.free()
    second = comm.empty(500)
    assert second.data_ptr == address
    with pytest.raises(InvalidArgument, match="freed already"):
        first.free()
    del first
    gc.collect()
    third = comm.empty(500)  # the first array's end must not free the second's memory
    assert third.data_ptr != address
    reduce_in(comm, second, 3)


@some_worlds
def test_freed_memory_is_used_again(ranks, world):
    fresh(ranks, world).run(freed_memory_is_used_again)


def arrays_that_are_gone(comm, rng):
    """One whose memory was given back, and one of a communicator that is closed."""
    part = comm.split(0)
    freed, orphan = part.empty(1000), part.empty(1000)
    freed.free()
    part.close()
    other = comm.empty(1000)
    as_others_see_it = "__array_interface__" if comm.device.host_is_device else "__cuda_array_interface__"
    uses = (
        comm.all_reduce,
        lambda array: comm.all_reduce(other, array),
        comm.broadcast,
        comm.register,
        lambda array: array.data_ptr,
        lambda array: array.to_host(),
        lambda array: array.from_host(np.zeros(1000, np.float32)),
        lambda array: getattr(array, as_others_see_it),
        lambda array: array.__dlpack__(),
    )
    for gone, why in ((freed, "the array is freed"), (orphan, "the communicator is closed")):
        for use in uses:
            with pytest.raises(InvalidArgument, match=f"rank .*: .*{why}"):
                use(gone)
        assert "SymmetricArray float32[1000]" in repr(gone)
    reduce_in(comm, other, 3)


@some_worlds
def test_arrays_that_are_gone(ranks, world):
    fresh(ranks, world).run(arrays_that_are_gone)


def garbage(comm, rng):
    """Memory goes back when the array is garbage on all ranks, and not before."""
    array = comm.empty(1000)
    address = array.data_ptr
    kept = array if comm.rank == 0 else None
    del array
    assert comm.empty(1000).data_ptr != address
    if kept is not None:
        reduce_kept = kept.to_host()
        kept.from_host(reduce_kept)
        del kept
    later = [comm.empty(1000) for _ in range(3)]
    return address in [each.data_ptr for each in later]


@some_worlds
def test_garbage(ranks, world):
    assert fresh(ranks, world).run(garbage) == [True] * world


def slow_peers(comm, rng):
    """A rank frees and allocates again at once, while others are still late for the collective before."""
    for turn in range(20):
        array = comm.empty(200_000, "float32")
        array.from_host(np.full(200_000, comm.rank + turn, np.float32))
        if turn % comm.world_size == comm.rank:
            time.sleep(0.01)
        comm.all_reduce(array)
        got = array.to_host()
        array.free()
        assert (got == sum(rank + turn for rank in range(comm.world_size))).all()


@pytest.mark.parametrize("world", worlds(2, 4))
def test_slow_peers(ranks, world):
    ranks.world(world).run(slow_peers)


def free_without_waiting(comm, rng):
    """Fast ranks free two arenas, of which one is unmapped and given back, and allocate again, while
    the slow rank has not read yet what the collective has left in its memory. When each was ready to."""
    times = []
    for turn in range(4):
        arrays = [comm.empty(3 << 20, "uint8") for _ in range(2)]  # an arena each
        data = oracle.make_input((turn,), comm.rank, 3 << 20, np.dtype(np.uint8), "bits")
        arrays[0].from_host(data)
        comm.broadcast(arrays[0], root=turn % comm.world_size)
        slow = comm.rank == (turn + 1) % comm.world_size
        if slow:
            time.sleep(0.3)
            root = oracle.make_input((turn,), turn % comm.world_size, 3 << 20, np.dtype(np.uint8), "bits")
            assert not oracle.difference(arrays[0].to_host(), root)
        has_read = time.monotonic()
        for array in arrays:
            array.free()
        times.append((slow, has_read, time.monotonic()))
        reduce_in(comm, comm.empty(1000), turn)
    return times


@pytest.mark.parametrize("world", worlds(2, 3))
def test_freeing_waits_for_slow_peers(ranks, world):
    for turn in zip(*fresh(ranks, world).run(free_without_waiting), strict=True):
        (slow_has_read,) = [has_read for slow, has_read, _ in turn if slow]
        assert all(freed > slow_has_read for _, _, freed in turn), turn


# ---- what is refused -------------------------------------------------------------------------------


def refusals_of_empty(comm, rng):
    def refused(text, *arguments):
        with pytest.raises(InvalidArgument) as caught:
            comm.empty(*arguments)
        assert text in str(caught.value), caught.value
        return str(caught.value).partition(": ")[2]

    odd = comm.rank == comm.world_size - 1
    messages = [
        refused("dtype 'float33'", 10, "float33" if odd else "float32"),
        refused("shape (-1,)", (-1,) if odd else (1,)),
        refused("shape (1073741824, 1073741824)", (1 << 30, 1 << 30)),
        refused("empty", "ab" if odd else 2),
        refused("empty", 2.5 if odd else 2),
    ]
    if comm.world_size > 1:
        messages.append(refused("asks for 44 bytes and rank 0 for 40", 11 if odd else 10))
    reduce_in(comm, comm.empty(1000), 1)
    return messages


@some_worlds
def test_refusals_of_empty(ranks, world):
    messages = ranks.world(world).run(refusals_of_empty)
    assert all(each == messages[0] for each in messages)


def different_arrays_freed(comm, rng):
    arrays = [comm.empty(10), comm.empty(20)]
    with pytest.raises(InvalidArgument, match="free different arrays"):
        arrays[1 if comm.rank == 1 else 0].free()
    for array in arrays:
        array.free()


@pytest.mark.parametrize("world", worlds(2, 3))
def test_different_arrays_freed(ranks, world):
    ranks.world(world).run(different_arrays_freed)


def out_of_memory(comm, rng):
    with pytest.raises(hipcomm.Error, match="hipMalloc failed"):
        comm.empty(1 << 45, "uint8")
    reduce_in(comm, comm.empty(1000), 1)


@some_worlds
def test_out_of_memory(ranks, world):
    ranks.world(world).run(out_of_memory)


# ---- foreign memory ----------------------------------------------------------------------------------


def refusals_of_register(comm, rng):
    base = int(call("hipMalloc", 1 << 20).as_c_void_p().value)
    host = np.zeros(1000)
    odd = comm.rank == comm.world_size - 1

    def refused(text, function, *arguments):
        with pytest.raises(InvalidArgument) as caught:
            function(*arguments)
        assert text in str(caught.value), caught.value
        return str(caught.value)

    where = host.ctypes.data
    messages = [
        refused("it is not device memory", comm.register, where if odd else base, 8000),
        refused("has only 1048576 bytes", comm.register, base, (1 << 20) + 1 if odd else 1 << 20),
        refused("nothing to register", comm.register, base, 0),
        refused("nothing registered begins", comm.deregister, base),
    ]
    comm.register(base + 4096, 4096)
    for start, nbytes in ((4096, 4096), (8191, 1), (0, 4097), (4000, 9000), (5000, 10)):
        refused("registered already", comm.register, base + start, nbytes)
    comm.register(base, 4096)
    comm.register(base + 8192, 4096)
    if comm.world_size > 1:
        refused("and 16 here", comm.register, base + 65536, 16 + 16 * odd)
        refused("different memory", comm.deregister, base if odd else base + 4096)
    for start in (4096, 0, 8192):
        comm.deregister(base + start)
    reduce_in(comm, comm.empty(100), 1)
    assert (host == 0).all()
    return [message.replace(f"{where:#x}", "").replace(f"{base:#x}", "") for message in messages[1:3]]


@some_worlds
def test_refusals_of_register(ranks, world):
    ranks.world(world).run(refusals_of_register)


def refused_on_one_rank(comm, rng):
    """What is wrong with one rank's arguments, all ranks hear at once."""
    base = int(call("hipMalloc", 4096).as_c_void_p().value)
    odd = comm.rank == comm.world_size - 1
    wrong = np.zeros((8, 8), np.float32)[:, ::2]
    messages = []
    for arguments in (("memory", 4096), (base, 40.5), (base, -1), (wrong,), (None,)):
        with pytest.raises(InvalidArgument) as caught:
            comm.register(*(arguments if odd else (base, 4096)))
        messages.append(str(caught.value))
    comm.register(base, 4096)
    for argument in (wrong, None, base + 1):
        with pytest.raises(InvalidArgument) as caught:
            comm.deregister(argument if odd else base)
        messages.append(str(caught.value))
    comm.deregister(base)
    return [re.sub("0x[0-9a-f]+", "", message) for message in messages]


@some_worlds
def test_refused_on_one_rank(ranks, world):
    first, *others = ranks.world(world).run(refused_on_one_rank)
    assert all(f"rank {world - 1}: " in message for message in first)
    assert all(other == first for other in others)


def pieces_share_a_mapping(comm, rng):
    """Several pieces of one allocation, in two communicators, until the last one is gone."""
    from hipcomm.memory.peers import _mappings

    part = comm.split(0, -comm.rank)  # the same ranks the other way round
    base = int(call("hipMalloc", 8 << 20).as_c_void_p().value)
    before = dict(_mappings._mapped)
    pieces = [(on, base + (number << 20)) for number, on in enumerate((comm, comm, part, comm, part))]

    def reduce_pieces():
        for on, address in pieces:
            piece = Region(address + 4096, 40_000)
            piece.put(np.full(10_000, 1.0 + comm.rank, np.float32))
            on.all_reduce(piece.address, count=10_000, dtype="float32")
            on.synchronize()
            total = sum(1.0 + rank for rank in range(comm.world_size))
            assert (piece.get(np.dtype(np.float32)) == total).all()

    for on, address in pieces:
        on.register(address, 1 << 20)
    part.register(base, 1 << 20)  # that comm has registered too
    assert len(_mappings._mapped) == len(before) + comm.world_size - 1
    reduce_pieces()
    part.deregister(base)
    while len(pieces) > 1:
        on, address = pieces.pop(0)
        on.deregister(address)
        reduce_pieces()
    on, address = pieces.pop()
    on.deregister(address)
    assert _mappings._mapped == before
    part.close()
    call("hipFree", base)


@some_worlds
def test_pieces_of_an_allocation_share_a_mapping(ranks, world):
    ranks.world(world, algorithm="direct").run(pieces_share_a_mapping)


def after_closing(comm, rng):
    part = comm.split(0)
    array = part.empty(10)
    part.close()
    for body in (array.free, lambda: part.empty(10), lambda: part.register(array), part.device_memory):
        with pytest.raises(hipcomm.Error):
            body()


@some_worlds
def test_memory_of_a_closed_communicator(ranks, world):
    ranks.world(world).run(after_closing)


def contents_stay(comm, rng):
    """Verifying a mapping writes to the memory for a moment."""
    memory = cases.arena()
    region = memory.region(4096)
    region.put(np.arange(512) + comm.rank)
    comm.register(region.address, 4096)
    assert (region.get(np.dtype(np.int64)) == np.arange(512) + comm.rank).all()
    comm.deregister(region.address)


@some_worlds
def test_contents_stay(ranks, world):
    ranks.world(world).run(contents_stay)


def many_regions(comm, rng):
    memory = cases.arena()
    regions = [memory.region(64) for _ in range(257)]
    for region in regions[:256]:
        comm.register(region.address, 64)
    with pytest.raises(InvalidArgument, match="256"):
        comm.register(regions[256].address, 64)
    for index in rng.permutation(256) if comm.world_size == 1 else range(255, -1, -1):
        comm.deregister(regions[index].address)


@pytest.mark.parametrize("world", worlds(1, 2))
def test_many_regions(own_ranks, world):  # of other tests' arrays some regions may be left
    own_ranks.world(world).run(many_regions)


def registered_array(comm, rng):
    """An array can be registered as such; the communicator is closed with it still registered."""
    array = comm.empty(10)
    with pytest.raises(InvalidArgument, match="registered already"):
        comm.register(array)
    region = cases.arena().region(400)
    interface = {"shape": (100,), "typestr": "<f4", "data": (region.address, False), "version": 3}
    comm.register(types.SimpleNamespace(__cuda_array_interface__=interface, dtype=np.dtype(np.float32)))


@some_worlds
def test_registered_array_and_close(ranks, world):
    fresh(ranks, world).run(registered_array)
    fresh(ranks, world).run(registered_array)  # the first one has been closed by now


# ---- other libraries -----------------------------------------------------------------------------------


def numpy_views(comm, rng):
    array = comm.empty((4, 6), "float32")
    view = np.asarray(array)
    assert view.shape == (4, 6) and view.ctypes.data == array.data_ptr and view.flags.writeable
    view[...] = comm.rank
    comm.all_reduce(array)
    assert (view == sum(range(comm.world_size))).all()
    comm.all_reduce(view)  # by its address: the same memory
    assert (array.numpy() == comm.world_size * sum(range(comm.world_size))).all()
    assert not hasattr(array, "__cuda_array_interface__")

    assert np.asarray(comm.empty(5, "bfloat16")).dtype == dtype_of("bfloat16")
    narrow = comm.empty(5, "bfloat16").numpy()
    assert narrow.dtype == dtype_of("bfloat16")
    narrow[:] = 2
    comm.all_reduce(narrow, op="prod")
    assert (narrow == 2**comm.world_size).all()

    address = array.data_ptr
    del array
    gc.collect()
    assert comm.empty((4, 6)).data_ptr != address  # a view keeps the memory
    del view
    gc.collect()
    assert comm.empty((4, 6)).data_ptr == address


@pytest.mark.host_arrays
@some_worlds
def test_numpy_views(ranks, world):
    fresh(ranks, world).run(numpy_views)


def dlpack_capsules(comm, rng):
    before = len(dlpack_export._lent)
    array = comm.empty((3, 4), "float32")
    address = array.data_ptr
    array.from_host(np.arange(12, dtype=np.float32).reshape(3, 4))
    taken = np.from_dlpack(array)
    assert taken.shape == (3, 4) and taken.ctypes.data == address and taken[2, 3] == 11
    unused = array.__dlpack__()
    assert len(dlpack_export._lent) == before + 2
    del unused, array
    gc.collect()
    assert len(dlpack_export._lent) == before + 1
    assert comm.empty((3, 4)).data_ptr != address
    del taken
    gc.collect()
    assert len(dlpack_export._lent) == before
    assert comm.empty((3, 4)).data_ptr == address
    scalar = comm.empty((), "float64")
    scalar.from_host(np.array(2.5))
    assert float(np.from_dlpack(scalar)) == 2.5
    assert np.from_dlpack(comm.empty((2, 0, 3), "int8")).shape == (2, 0, 3)


@pytest.mark.host_arrays
@some_worlds
def test_dlpack(ranks, world):
    fresh(ranks, world).run(dlpack_capsules)


def seen_as_a_gpu_s(comm, rng):
    """The consumer for device memory reads what the producer writes, bfloat16 included."""
    for dtype in oracle.DTYPES:
        array = comm.empty((2, 3), dtype)

        def give_out(max_version=None, stream=None, array=array):
            assert stream == -1  # a stream that waited for another could not be captured
            return dlpack_export.capsule(
                array, array.data_ptr, array.shape, array.dtype, (10, 0), max_version
            )

        device = types.SimpleNamespace(__dlpack_device__=lambda: (10, 0), __dlpack__=give_out)
        view = dlpack.read(device, "x")
        assert (view.address, view.shape, view.dtype) == (array.data_ptr, (2, 3), array.dtype)
        assert view.is_c_contiguous and not view.is_read_only and not view.on_host


def test_dlpack_of_device_memory(ranks):
    ranks.world(1).run(seen_as_a_gpu_s)


class StandInForCupy(types.ModuleType):
    """As much of CuPy as an allocator touches."""

    class cuda:
        class UnownedMemory:
            def __init__(self, ptr, size, owner, device_id=-1):
                self.ptr, self.size, self.owner, self.device_id = ptr, size, owner, device_id

        class MemoryPointer:
            def __init__(self, mem, offset):
                self.mem, self.ptr = mem, mem.ptr + offset


def cupy_allocator(comm, rng):
    sys.modules["cupy"] = StandInForCupy("cupy")
    try:
        blocks = [comm.cupy_allocator(nbytes) for nbytes in (1000, 1 << 20, 3 << 20)]
    finally:
        del sys.modules["cupy"]
    assert [block.mem.size for block in blocks] == [1000, 1 << 20, 3 << 20]
    assert all(block.mem.device_id == comm.device.ordinal for block in blocks)
    # interior pointers, another one on each rank; the direct algorithm is forced
    inside = Region(blocks[2].ptr + 12345 * 4 + 512 * comm.rank, 4000)
    inside.put(np.full(1000, 3.0 + comm.rank, np.float32))
    comm.all_reduce(inside.address, inside.address, count=1000, dtype="float32")
    comm.synchronize()
    total = sum(3.0 + rank for rank in range(comm.world_size))
    assert inside.get(np.dtype(np.float32)).tolist() == [total] * 1000
    address = blocks[0].ptr
    del blocks[0]
    gc.collect()
    assert comm.empty(1000, "uint8").data_ptr == address


@some_worlds
def test_cupy_allocator(ranks, world):
    fresh(ranks, world, algorithm="direct").run(cupy_allocator)
