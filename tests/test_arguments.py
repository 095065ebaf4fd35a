"""Wrong arguments: InvalidArgument before anything is launched, with the value in the message.

One rank makes the wrong call and then all ranks a right one: had the wrong call been launched, or had it
moved the epoch on, the right one could not succeed.
"""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import oracle
import pytest
from harness import worlds
from regions import arena

import hipcomm
from hipcomm.buffers.arrays import array_buffer

WORLD = 2

pytestmark = pytest.mark.skipif(not worlds(WORLD), reason=f"needs {WORLD} devices")


def refused(comm, *parts, operation, call):
    """The call raises InvalidArgument; its message has rank, operation and all of *parts*."""
    try:
        call()
    except hipcomm.InvalidArgument as error:
        for part in (f"rank {comm.rank}: ", f"{operation}: ", *parts):
            assert part in str(error), f"{part!r} is not in the message {str(error)!r}"
        return
    raise AssertionError(f"{operation} accepted what it should have refused ({', '.join(parts)})")


def still_works(comm):
    """A right call, on all ranks."""
    region = arena().region(40)
    region.put(np.full(10, comm.rank + 1, np.float32))
    comm.all_reduce(region.address, region.address, count=10, dtype="float32")
    comm.synchronize()
    assert region.get(np.dtype(np.float32)).tolist() == [WORLD * (WORLD + 1) / 2] * 10


# ---- addresses: the same on every platform --------------------------------------------------------------


def wrong_address_calls(comm):
    """(operation, what the message must have, the call)."""
    memory = arena()
    a, b = memory.region(1024).address, memory.region(4096).address
    ten = {"count": 10, "dtype": "float32"}

    def reduce(*arguments, **options):
        return lambda: comm.all_reduce(*arguments, **options)

    def gather(*arguments, **options):
        return lambda: comm.all_gather(*arguments, **options)

    def cast(*arguments, **options):
        return lambda: comm.broadcast(*arguments, **options)

    yield "all_reduce", ["'mean'", "sum, prod, max, min, avg"], reduce(a, a, "mean", **ten)
    yield "all_reduce", ["7"], reduce(a, a, 7, **ten)
    yield "all_reduce", ["[]"], reduce(a, a, [], **ten)
    yield "all_reduce", ["sendbuf"], reduce("text", b, **ten)
    yield "all_reduce", ["recvbuf"], reduce(a, object(), **ten)
    yield "all_reduce", ["NoneType"], reduce(None)

    for operation, make in (("all_reduce", reduce), ("all_gather", gather)):
        yield operation, ["count=", "dtype="], make(a, b)
        yield operation, ["count=", "dtype="], make(a, b, count=10)
        yield operation, ["count=", "dtype="], make(a, b, dtype="float32")
        for count in (-1, 1.5, "10", True, 2**64, 2**63):
            yield operation, [str(count)], make(a, b, count=count, dtype="float32")
        for dtype in ("float8", "__doc__", "complex64", "bool", "int16", "S4", np.dtype(">f4"), object()):
            yield operation, ["is not supported", "bfloat16"], make(a, b, count=10, dtype=dtype)
        yield operation, ["-8", "address"], make(-8, b, **ten)
        yield operation, ["past the end of memory"], make(2**64 - 8, b, **ten)
        yield operation, ["past the end of memory"], make(a, 2**64 - 40, count=11, dtype="float32")
        yield operation, ["address"], make(a, 2**64, **ten)
        yield operation, ["NULL", "10"], make(0, b, **ten)
        yield operation, ["NULL", "10"], make(a, 0, **ten)
        for stream in ("default", 1.5, object(), "12", True, -1, 2**64):
            yield operation, ["stream", repr(stream)], make(a, b, stream=stream, **ten)
    yield "all_reduce", ["sendbuf", "bool"], reduce(True, b, **ten)

    yield "all_reduce", [f"{a + 4:#x}", f"{a:#x}", "overlap"], reduce(a, a + 4, **ten)
    yield "all_reduce", [f"{a + 36:#x}", "overlap"], reduce(a + 36, a, **ten)
    yield "all_gather", ["overlap"], gather(b + 40 * (1 - comm.rank), b, **ten)
    yield "all_gather", ["overlap"], gather(b + 1, b, **ten)
    yield "all_gather", ["dim 1"], gather(a, b, 1, **ten)

    for root in (WORLD, -1, 0.0, "0", None, True):
        why = f"is not in a world of {WORLD}" if type(root) is int else "is not a rank"
        yield "broadcast", [f"root {root!r} {why}"], cast(a, root, **ten)
    yield "broadcast", ["-1"], cast(a, count=-1, dtype="float32")
    yield "broadcast", ["NULL"], cast(0, **ten)
    yield "broadcast", ["stream"], cast(a, stream=object(), **ten)
    yield "barrier", ["stream"], lambda: comm.barrier(stream="x")
    yield "synchronize", ["stream"], lambda: comm.synchronize(stream="x")


def one_rank_calls_wrongly(comm, rng):
    number = 0
    for number, (operation, parts, call) in enumerate(wrong_address_calls(comm)):
        if number % WORLD == comm.rank:
            refused(comm, *parts, operation=operation, call=call)
        still_works(comm)
    return number


def test_wrong_addresses_counts_dtypes_roots_and_streams(ranks):
    made = ranks.world(WORLD).run(one_rank_calls_wrongly)
    assert made[0] == made[1] > 50


def neighbours(comm, rng):
    """Buffers that touch without overlapping are fine, and so are empty ones anywhere."""
    memory = arena()
    both = memory.region(80 + 160)
    both.put(np.full(60, 2, np.float32))
    comm.all_reduce(both.address, both.address + 40, count=10, dtype="float32")
    comm.synchronize()
    assert both.get(np.dtype(np.float32)).tolist() == [2.0] * 10 + [2.0 * WORLD] * 10 + [2.0] * 40
    comm.all_reduce(both.address, both.address, count=0, dtype="float32")
    comm.all_reduce(0, 0, count=0, dtype="float32")
    comm.all_gather(0, 0, count=0, dtype="int8")
    comm.broadcast(0, count=0, dtype="int8")
    still_works(comm)


def small_counts(comm, rng):
    """A count is a number, whatever its type holds: 100 bytes times the world are more than 127."""
    memory = arena()
    send, recv = memory.region(100 * WORLD), memory.region(100 * WORLD)
    for count in (100, np.int8(100), np.uint8(100), np.int64(100)):
        where = {"count": count, "dtype": "int8"}
        send.put(np.full(100 * WORLD, comm.rank + 1, np.int8))
        expected = np.repeat(np.arange(WORLD, dtype=np.int8) + 1, 100)
        comm.all_gather(send.address, recv.address, **where)
        comm.synchronize()
        assert (recv.get(np.dtype(np.int8)) == expected).all()
        comm.all_to_all(send.address, recv.address, **where)
        comm.reduce_scatter(send.address, recv.address, **where)
        comm.gather(send.address, recv.address, **where)
        comm.scatter(send.address, recv.address, **where)
        comm.synchronize()
    still_works(comm)


def in_a_forked_child(comm, rng):
    """It must not take part as its parent's rank, and whatever it does the parent works on."""
    memory = arena().region(40)
    child = os.fork()
    if child == 0:
        said = []
        for use in (
            lambda: comm.all_reduce(memory.address, count=10, dtype="float32"),
            comm.barrier,
            comm.synchronize,
            lambda: comm.empty(10),
            lambda: comm.split(0),
        ):
            try:
                use()
            except hipcomm.InvalidArgument as error:
                said.append(str(error))
        comm.abort("the child's own affair")
        comm.close()
        is_right = len(said) == 5 and all("forked child" in text for text in said)
        os._exit(0 if is_right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    still_works(comm)


def test_a_forked_child_is_no_rank(own_ranks):
    own_ranks.world(WORLD).run(in_a_forked_child)


class ArrayOfAnotherLibrary:
    """Its dtype means nothing to NumPy, as PyTorch's does not."""

    dtype = object()

    def __init__(self, address, count):
        self.__cuda_array_interface__ = {
            "shape": (count,),
            "typestr": "<f4",
            "data": (address, False),
            "version": 3,
        }


def foreign_arrays(comm, rng):
    memory = arena().region(40)
    memory.put(np.full(10, comm.rank + 1, np.float32))
    comm.all_reduce(ArrayOfAnotherLibrary(memory.address, 10))
    comm.synchronize()
    assert memory.get(np.dtype(np.float32)).tolist() == [WORLD * (WORLD + 1) / 2] * 10


def test_arrays_of_other_libraries(ranks):
    ranks.world(WORLD).run(foreign_arrays)


def test_counts_of_small_integers(ranks):
    ranks.world(WORLD).run(small_counts)


def test_neighbours_and_nothing(ranks):
    ranks.world(WORLD).run(neighbours)


class StreamOfCupy:
    ptr = 0


class StreamOfTheProtocol:
    def __cuda_stream__(self):
        return (0, 0)


def streams(comm, rng):
    from hipcomm.hip import call

    own = call("hipStreamCreate")
    for stream in (None, 0, np.int64(0), StreamOfCupy(), StreamOfTheProtocol(), own, int(own)):
        region = arena().region(8)
        region.put(np.full(2, 1.5, np.float32))
        comm.all_reduce(region.address, region.address, count=2, dtype="float32", stream=stream)
        comm.barrier(stream=stream)
        comm.synchronize(stream=stream)
        assert region.get(np.dtype(np.float32)).tolist() == [1.5 * WORLD] * 2
    call("hipStreamDestroy", own)
    still_works(comm)  # on another stream than the last call's, which is gone


def test_streams(ranks):
    ranks.world(WORLD).run(streams)


def closed(comm, rng):
    address = arena().region(64).address
    where = {"count": 4, "dtype": "float32"}
    comm.close()
    comm.close()
    for call in (
        lambda: comm.all_reduce(address, address, **where),
        lambda: comm.all_gather(address, address + 16, **where),
        lambda: comm.broadcast(address, **where),
        comm.barrier,
        comm.synchronize,
    ):
        with pytest.raises(hipcomm.InvalidArgument, match=f"rank {comm.rank}: .*closed"):
            call()
    assert "closed" in repr(comm)


@pytest.mark.parametrize("world", worlds(1, 2))
def test_closed(own_ranks, world):
    own_ranks.world(world).run(closed)


# ---- arrays: NumPy's on the CPU platform ----------------------------------------------------------------


def wrong_array_calls(comm):
    a, b = np.zeros(10, np.float32), np.zeros(20, np.float32)
    read_only = np.zeros(10, np.float32)
    read_only.flags.writeable = False
    strided, column = np.zeros(20, np.float32)[::2], np.zeros((5, 4), np.float32)[:, 1]

    def reduce(*arguments, **options):
        return lambda: comm.all_reduce(*arguments, **options)

    def gather(*arguments, **options):
        return lambda: comm.all_gather(*arguments, **options)

    for dtype in (np.int16, np.complex64, np.bool_, ">f4", object, "S3", ml_dtypes.float4_e2m1fn):
        yield "all_reduce", ["sendbuf", str(np.dtype(dtype))], reduce(np.zeros(10, dtype), a)
        yield "all_reduce", ["recvbuf", str(np.dtype(dtype))], reduce(np.zeros(10, dtype))
        yield "all_gather", ["sendbuf", str(np.dtype(dtype))], gather(np.zeros(10, dtype), b)
        yield (
            "broadcast",
            ["buf", str(np.dtype(dtype))],
            lambda dtype=dtype: comm.broadcast(np.zeros(3, dtype)),
        )
    yield "all_reduce", ["10 elements", "9 of"], reduce(a, np.zeros(9, np.float32))
    yield "all_reduce", ["float32", "int32"], reduce(a, np.zeros(10, np.int32))
    yield "all_gather", ["10 elements", "19 of", "2 times"], gather(a, b[:19])
    yield "all_gather", ["10 elements", "10 of", "2 times"], gather(a, a.copy())
    yield "all_gather", ["float32", "float64"], gather(a, np.zeros(20))
    masked = np.ma.MaskedArray(a.copy(), mask=[True] * 10)
    yield "all_reduce", ["recvbuf", "masked"], reduce(masked)
    yield "all_reduce", ["sendbuf", "masked"], reduce(masked, a)
    yield "all_gather", ["sendbuf", "masked"], gather(masked, b)
    norm = (np.ma.MaskedArray(np.ones((2, 5), np.float32)), None, a[:5], 1e-5)
    yield "add_rms_norm", ["x", "masked"], lambda: comm.add_rms_norm(*norm)
    yield "all_reduce", ["recvbuf", "(10,)", "read-only"], reduce(read_only)
    yield "all_reduce", ["recvbuf", "(10,)", "read-only"], reduce(a, read_only)
    yield "all_gather", ["recvbuf", "read-only"], gather(a[:5], read_only)
    yield "broadcast", ["buf", "read-only"], lambda: comm.broadcast(read_only, root=1 - comm.rank)
    yield "all_reduce", ["sendbuf", "(10,)", "(8,)", "contiguous"], reduce(strided, a)
    yield "all_reduce", ["recvbuf", "(5,)", "(16,)", "contiguous"], reduce(column)
    yield "all_gather", ["recvbuf", "contiguous"], gather(a[:5], strided)
    yield "all_reduce", ["overlap"], reduce(b[:10], b[1:11])
    yield "all_reduce", ["overlap"], reduce(b[9:19], b[:10])
    yield "all_gather", ["overlap"], gather(b[10 - 10 * comm.rank :][:10], b)
    yield "all_reduce", ["count=", "dtype="], reduce(a, count=10)
    yield "all_reduce", ["count=", "dtype="], reduce(a, dtype="float32")
    yield "all_reduce", ["count=", "dtype="], reduce(a, dtype="int8", count=10)
    for value in ([1.0, 2.0], (1.0,), 1.5, b"bytes", np.float32(1), {}):
        yield "all_reduce", [type(value).__name__], reduce(value)


def no_dtype(comm, rng):
    """NumPy takes None for float64."""
    with pytest.raises(hipcomm.InvalidArgument, match="dtype None is not supported"):
        comm.empty(10, None)
    with pytest.raises(hipcomm.InvalidArgument, match="dtype None is not supported"):
        comm.plan("all_reduce", 10, None)


def test_no_dtype_is_not_a_dtype(ranks):
    ranks.world(WORLD).run(no_dtype)


def one_rank_passes_a_wrong_array(comm, rng):
    for number, (operation, parts, call) in enumerate(wrong_array_calls(comm)):
        if number % WORLD == comm.rank:
            refused(comm, *parts, operation=operation, call=call)
        still_works(comm)


@pytest.mark.host_arrays
def test_wrong_arrays(ranks):
    ranks.world(WORLD).run(one_rank_passes_a_wrong_array)


class OnlyDlpack:
    """An array that speaks DLPack and nothing else."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


class OnlyArrayInterface:
    """An array that speaks NumPy's array interface and nothing else."""

    def __init__(self, array):
        self._array = array  # the interface does not keep the memory alive
        self.__array_interface__ = array.__array_interface__


def right_arrays(comm, rng):
    total = WORLD * (WORLD + 1) // 2
    for dtype in oracle.DTYPES:
        for shape in ((), (1,), (0,), (3, 4), (2, 1, 5)):
            array = np.full(shape, comm.rank + 1).astype(oracle.dtype_of(dtype))
            comm.all_reduce(array)
            assert (array == total).all()
            result = np.zeros((WORLD, *shape), array.dtype)
            comm.all_gather(array, result)
            assert (result == total).all()
    for wrap in (OnlyDlpack, OnlyArrayInterface, lambda array: array.view(type("Sub", (np.ndarray,), {}))):
        sent, received = np.full(7, comm.rank + 1, np.float32), np.zeros(7, np.float32)
        comm.all_reduce(wrap(sent), wrap(received))
        assert received.tolist() == [total] * 7
        comm.broadcast(wrap(sent), root=1)
        assert sent.tolist() == [2] * 7
    fortran = np.asfortranarray(np.ones((1, 9), np.int64))  # contiguous both ways
    comm.all_reduce(fortran, op="max")
    slices = np.arange(20, dtype=np.int64)
    comm.all_reduce(slices[5:15])
    assert slices.tolist() == [*range(5), *(WORLD * i for i in range(5, 15)), *range(15, 20)]


@pytest.mark.host_arrays
def test_right_arrays(ranks):
    ranks.world(WORLD).run(right_arrays)


def strange_interfaces(comm, rng):
    """Objects that lie about being arrays are refused, not believed."""
    for interface in ({}, {"shape": (3,), "typestr": "<f4", "version": 3}, None, 5):
        thing = SimpleNamespace(__array_interface__=interface)
        refused(
            comm,
            "sendbuf",
            operation="all_reduce",
            call=lambda thing=thing: comm.all_reduce(thing, np.zeros(3)),
        )
    still_works(comm)


@pytest.mark.host_arrays
def test_strange_interfaces(ranks):
    ranks.world(WORLD).run(strange_interfaces)


@pytest.mark.parametrize("array", (np.zeros((3, 2)), OnlyArrayInterface(np.zeros(3)), [1.0]))
def test_host_arrays_are_no_device_arrays(array):
    """On a platform whose devices have memory of their own."""
    with pytest.raises(hipcomm.InvalidArgument, match=r"^sendbuf: .*(host memory|neither an array nor)"):
        array_buffer(array, "sendbuf", False, host_is_device=False, any_order=False)


class ArrayOfCupy:
    """As much of cupy.ndarray as a call looks at. It has no interface: that would be the slower way."""

    def __init__(self, region, count, dtype="float32", contiguous=True):
        self.data = SimpleNamespace(ptr=region.address)
        self.size, self.shape, self.strides = count, (count,), (4 if contiguous else 8,)
        self.dtype = oracle.dtype_of(dtype)
        self.flags = SimpleNamespace(c_contiguous=contiguous)


def arrays_of_cupy(comm, rng):
    sys.modules["cupy"] = SimpleNamespace(ndarray=ArrayOfCupy)
    try:
        for dtype in oracle.DTYPES:
            region = arena().region(80)
            kind = oracle.dtype_of(dtype)
            region.put(np.full(80 // kind.itemsize, comm.rank).astype(kind))
            comm.all_reduce(ArrayOfCupy(region, 80 // kind.itemsize, dtype), op="max")
            comm.synchronize()
            assert (region.get(kind) == WORLD - 1).all()
        for wrong, part in (({"contiguous": False}, "not dense"), ({"dtype": "int16"}, "int16")):
            refused(
                comm,
                part,
                operation="all_reduce",
                call=lambda wrong=wrong: comm.all_reduce(ArrayOfCupy(arena().region(80), 20, **wrong)),
            )
    finally:
        del sys.modules["cupy"]
    still_works(comm)


def test_arrays_of_cupy(ranks):
    ranks.world(WORLD).run(arrays_of_cupy)


def spellings(comm, rng):
    """A dtype may be named in any way that NumPy understands."""
    region = arena().region(80)
    for spelling in ("float32", "f4", "<f4", np.float32, np.dtype("float32"), "single"):
        region.put(np.full(20, comm.rank, np.float32))
        comm.all_reduce(region.address, count=20, dtype=spelling, op="max")
        comm.synchronize()
        assert (region.get(np.dtype(np.float32)) == WORLD - 1).all()
    for spelling in (">f4", "float33", [], {}, None, 4, np.dtype("int16")):
        refused(
            comm,
            "dtype",
            operation="all_reduce",
            call=lambda spelling=spelling: comm.all_reduce(region.address, count=20, dtype=spelling),
        )


def test_spellings_of_dtypes(ranks):
    ranks.world(WORLD).run(spellings)
