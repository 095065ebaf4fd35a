"""Arrays of every library as buffers: the table of docs/arrays.md; memory orders; what misleads."""

from __future__ import annotations

import array
import ctypes
import importlib.util
import mmap
import sys
from pathlib import Path

import array_kinds
import ml_dtypes
import numpy as np
import oracle
import pytest
from array_kinds import COUNT, KINDS, InJit, NewDlpack, OldDlpack, Speaks, interface, read_only
from harness import worlds

import hipcomm

WORLD = 2
PAGE = Path(__file__).parent.parent / "docs" / "arrays.md"
ROWS = {
    row[0]: row[1:3]
    for row in ([cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.read_text().splitlines())
    if len(row) == 4 and row[1] in ("yes", "no")
}

pytestmark = [
    pytest.mark.host_arrays,
    pytest.mark.skipif(not worlds(WORLD), reason=f"needs {WORLD} devices"),
]


def test_every_row_of_the_table_is_tried():
    assert list(ROWS) == list(KINDS)


def numbers(comm, row):
    """What this rank passes: other numbers on every rank."""
    return (np.arange(row.count) % 50 + 1 + 10 * comm.rank).astype(row.dtype)


def total(row):
    return sum(np.arange(row.count) % 50 + 1 + 10 * rank for rank in range(WORLD)).astype(row.dtype)


def in_words(call, words):
    """The call is refused, with all of the words."""
    with pytest.raises(hipcomm.InvalidArgument) as caught:
        call()
    for word in (*words, "all_reduce: "):
        assert word in str(caught.value), f"{word!r} is not in {caught.value}"


def pass_it(comm, kind, passed, other, is_sent):
    """all_reduce of an array of some kind to or from NumPy's."""
    options = KINDS[kind].options
    other = other.ctypes.data if options else other
    if isinstance(passed, InJit):
        import jax

        def traced(x):
            comm.all_reduce(*((x, other) if is_sent else (other, x)))
            return x

        jax.jit(traced)(np.zeros(COUNT, np.float32))
        return
    comm.all_reduce(*((passed, other) if is_sent else (other, passed)), **options)


def walk(comm, rng, kind, sends, receives):
    row = KINDS[kind]
    try:
        values, other = numbers(comm, row), np.full(row.count, 77, row.dtype)
        passed = row.make(comm, values)
        if sends == "yes":
            pass_it(comm, kind, passed, other, True)
            assert (other == total(row)).all()
        else:
            in_words(lambda: pass_it(comm, kind, passed, other, True), row.words)
        values = np.full(row.count, 77, row.dtype)
        passed, other = row.make(comm, values), numbers(comm, row)
        if receives == "yes":
            pass_it(comm, kind, passed, other, False)
            assert ((values if row.read is None else row.read(passed)) == total(row)).all()
        else:
            in_words(lambda: pass_it(comm, kind, passed, other, False), row.words)
    finally:
        sys.modules.pop("cupy", None)


@pytest.mark.parametrize("kind", ROWS)
def test_the_table(ranks, kind):
    needed = KINDS[kind].needs if kind in KINDS else ""
    if needed and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    ranks.world(WORLD).run(walk, kind, *ROWS[kind])


# ---- dtypes that NumPy's own readers do not know ---------------------------------------------------------


def small_floats_of_jax(comm, rng):
    import jax

    for name in oracle.DTYPES:
        dtype = oracle.dtype_of(name)
        if dtype.itemsize == 8:
            continue
        sent = jax.numpy.array(np.full(9, comm.rank + 1).astype(dtype))
        got = np.zeros(9, dtype)
        comm.all_reduce(sent, got, "max")
        assert (got == dtype.type(WORLD)).all(), name
        comm.broadcast(sent if comm.rank == 0 else got, root=0)  # a root only sends
        assert comm.rank == 0 or (got == dtype.type(1)).all(), name


def test_all_dtypes_of_jax(ranks):
    pytest.importorskip("jax")
    ranks.world(WORLD).run(small_floats_of_jax)


def small_floats_of_torch(comm, rng):
    import torch

    for dtype in (
        torch.bfloat16,
        torch.float16,
        torch.float8_e4m3fn,
        torch.float8_e5m2,
        torch.float8_e8m0fnu,
    ):
        tensor = torch.full((3, 5), 2.0**comm.rank).to(dtype)
        comm.all_reduce(tensor, op="max")
        assert (tensor.float() == 2.0 ** (WORLD - 1)).all(), dtype
        whole = torch.zeros((WORLD, 4)).to(dtype)
        comm.all_gather(torch.full((4,), 2.0**comm.rank).to(dtype), whole)
        assert (whole.float() == torch.tensor([[2.0**r] * 4 for r in range(WORLD)])).all(), dtype
    symmetric = comm.empty((4, 4), torch.bfloat16)
    shared = torch.from_dlpack(symmetric)
    shared.fill_(comm.rank + 1)
    comm.all_reduce(symmetric)
    assert (shared == 3).all()
    comm.all_reduce(shared.t())  # in symmetric memory too, and transposed on all ranks
    assert (shared == 3 * WORLD).all()
    weight = torch.nn.Parameter(torch.ones(8))
    x, out = torch.full((2, 8), float(comm.rank)), torch.zeros(2, 8)
    with torch.no_grad():
        comm.all_reduce_rms_norm(x, None, weight, 0.0, out)
    assert (out == 1).all()
    for wrong, word in (
        (torch.ones(8, 8).t()[:, ::2], "gaps"),
        (torch.ones(4, device="meta"), "meta"),
        (torch.ones(4).to_sparse(), "memory"),
        (torch.ones(1, dtype=torch.complex64).conj().imag, "negated"),
        (torch.ones(4, dtype=torch.int16), "int16"),
    ):
        in_words(lambda wrong=wrong: comm.all_reduce(wrong), (word,))


def test_tensors_of_torch(ranks):
    pytest.importorskip("torch")
    ranks.world(WORLD).run(small_floats_of_torch)


class TensorOfTorch:
    """As much of torch.Tensor as the reader looks at, where torch is not installed."""

    requires_grad = False

    def __init__(self, values, place="cpu", dtype="torch.bfloat16"):
        self._values, self.shape = values, values.shape
        self.device = Speaks(None, type=place)
        self.dtype = type("dtype", (), {"__module__": "torch", "__str__": lambda _: dtype})()

    def is_neg(self):
        return False

    def data_ptr(self):
        return self._values.ctypes.data

    def stride(self):
        return tuple(stride // self._values.itemsize for stride in self._values.strides)

    def is_contiguous(self):
        return self._values.flags.c_contiguous

    @property
    def __cuda_array_interface__(self):
        raise KeyError(self.dtype)  # as torch's for its 8-bit floats

    def __dlpack__(self, **_):
        raise AssertionError("makes streams wait for one another")


def tensors_without_torch(comm, rng):
    sys.modules["torch"] = Speaks(None, Tensor=TensorOfTorch, is_grad_enabled=lambda: True)
    try:
        for dtype in ("bfloat16", "float8_e4m3fn", "float32"):
            values = np.full((2, 3), comm.rank + 1).astype(oracle.dtype_of(dtype))
            comm.all_reduce(TensorOfTorch(values, dtype=f"torch.{dtype}"))
            assert (values == 3).all()
        values = np.ones(4, np.float32)
        in_words(lambda: comm.all_reduce(TensorOfTorch(values, "cuda", "torch.float32")), ("GPU", "CPU"))
        in_words(lambda: comm.all_reduce(TensorOfTorch(values, "xpu", "torch.float32")), ("cannot reach",))
        assert comm.empty(3, TensorOfTorch(values).dtype).dtype == ml_dtypes.bfloat16
    finally:
        del sys.modules["torch"]


def test_tensors_where_there_is_no_torch(own_ranks):
    own_ranks.world(WORLD).run(tensors_without_torch)


# ---- memory orders ---------------------------------------------------------------------------------------


def orders(shape):
    """All dense arrangements of an array: each transposition of one whose extents are in another order."""
    import itertools

    for axes in itertools.permutations(range(len(shape))):
        yield lambda dtype, axes=axes: np.empty([shape[a] for a in axes], dtype).transpose(np.argsort(axes))


def any_memory_order(comm, rng):
    shape = (3, 1, 4, 2)
    for dtype in (np.float32, np.int64, ml_dtypes.bfloat16):
        values = [np.random.default_rng(rank).integers(0, 9, shape).astype(dtype) for rank in range(WORLD)]
        expected = values[0] + values[1]
        for make in orders(shape):
            sent, got = make(dtype), make(dtype)
            sent[...], got[...] = values[comm.rank], 77
            comm.all_reduce(sent, got)
            assert (got == expected).all() and (sent == values[comm.rank]).all()
            got[...] = 77
            comm.reduce(sent, got, root=1)
            assert (got == (expected if comm.rank == 1 else dtype(77))).all()
            comm.broadcast(sent, root=1)
            assert (sent == values[1]).all()
    a, b = np.asfortranarray(np.ones((3, 4), np.float32)), np.ones((3, 4), np.float32)
    in_words(lambda: comm.all_reduce(a, b), ("C order", "dimensions (1, 0) of (3, 4), slowest first"))
    in_words(lambda: comm.all_reduce(b, a), ("C order", "dimensions (1, 0) of (3, 4)"))
    in_words(lambda: comm.all_reduce(a, np.asfortranarray(np.ones((4, 3), np.float32))), ("(4, 3)",))
    for wrong in (
        np.ones((4, 6), np.float32)[:, ::2].T,
        np.ones((3, 4), np.float32)[::-1].T,
        np.broadcast_to(np.float32(1), (3, 4)),
        np.lib.stride_tricks.as_strided(b, (3, 3), (4, 4)),
    ):
        in_words(lambda wrong=wrong: comm.all_reduce(wrong, a), ("not dense",))
    for call in (
        lambda: comm.all_gather(a, np.ones((6, 4), np.float32)),
        lambda: comm.send(a, 1 - comm.rank),
        lambda: comm.all_to_all(a, np.ones(12, np.float32)),
    ):
        with pytest.raises(hipcomm.InvalidArgument, match="not C-contiguous"):
            call()
    comm.barrier()


def test_any_memory_order(ranks):
    ranks.world(WORLD).run(any_memory_order)


def orders_differ(comm, rng, shapes):
    for _ in range(2):  # orders that are the same
        comm.all_reduce(np.asfortranarray(np.ones((3, 4), np.float32)))
        comm.all_reduce(np.ones((3, 4), np.float32))
    array = np.ones(shapes[comm.rank], np.float32)
    with pytest.raises(hipcomm.CallMismatch) as caught:
        comm.all_reduce(array if shapes[comm.rank] == (3, 4) and comm.rank == 0 else np.asfortranarray(array))
    return str(caught.value)


@pytest.mark.parametrize("other", ((3, 4), (2, 6)))
def test_checked_calls_compare_memory_orders(own_ranks, other):
    first = (3, 4) if other == (3, 4) else (6, 2)
    for text in own_ranks.world(WORLD, check=True).run(orders_differ, (first, other)):
        sides = text.split("rank 0 calls ")[1].split(", rank 1 calls ")
        assert "memory order 10 of shape #" in sides[1], text
        assert ("memory order" in sides[0]) == (first == (6, 2)), text
        assert sides[0] != sides[1]


# ---- what lies, and what misleads ------------------------------------------------------------------------


class Lies:
    """Its DLPack capsule is none."""

    def __dlpack_device__(self):
        return (1, 0)

    def __dlpack__(self, **_):
        return 5


class OnAnotherDevice(NewDlpack):
    def __dlpack_device__(self):
        return (8, 0)  # kDLMetal


def refusals(comm, rng):
    a = np.ones(4, np.float32)
    where = {"count": 4, "dtype": "float32"}
    closed = mmap.mmap(-1, 4096)
    closed.close()
    reading = mmap.mmap(-1, 4096, prot=mmap.PROT_READ)
    masked = Speaks(a, __array_interface__={**a.__array_interface__, "mask": a})
    for wrong, words in (
        (np.ma.array(a), ("mask",)),
        (masked, ("mask",)),
        (Lies(), ("capsule",)),
        (OnAnotherDevice(a), ("device type 8",)),
        (closed, ("memory",)),
        (reading, ("read-only",)),
        (memoryview(bytes(8)), ("read-only",)),
        (OldDlpack(read_only(a)), ("memory", "readonly")),
        (array.array("h", [1, 2]), ("int16",)),
        (memoryview(np.ones(2, ">f4")), (">f",)),
        ((ctypes.c_bool * 4)(), ("format '<?'",)),
        (ctypes.c_wchar("x"), ("format",)),
        (memoryview(bytearray(8))[::2], ("gaps",)),
        (ctypes.c_void_p(a.ctypes.data), ("count=", "dtype=")),
        (ctypes.pointer(ctypes.c_float(1)), ("count=", "dtype=")),
        (array_kinds.ffi.new("float[4]"), ("count=", "dtype=")),
        (array_kinds.ffi.new("float *")[0], ("float",)),
        (Speaks(None), ("neither an array",)),
        (Speaks, ("neither an array",)),
        (np.ndarray, ("neither an array",)),
    ):
        in_words(lambda wrong=wrong: comm.all_reduce(wrong), words)
        if isinstance(wrong, (np.ma.MaskedArray, Lies, OnAnotherDevice)):
            in_words(lambda wrong=wrong: comm.all_reduce(wrong, a), words)
    for passed in (a, memoryview(a), [1], "text"):
        in_words(
            lambda passed=passed: comm.all_reduce(passed, passed, **where),
            ("count= and dtype= go with an address",),
        )
    for dtype in ("__doc__", "__name__", None, "", "f4,f4", "float4_e2m1fn", "dtype", type, np.generic):
        with pytest.raises(hipcomm.InvalidArgument, match="dtype"):
            comm.all_reduce(a.ctypes.data, count=4, dtype=dtype)
        with pytest.raises(hipcomm.InvalidArgument, match=r"dtype .* is not supported"):
            comm.plan("all_reduce", 16, dtype)
    last = 2**64 - 16
    for operation, call in {
        "sendbuf": lambda: comm.all_reduce(last, a.ctypes.data, count=5, dtype="float32"),
        "recvbuf": lambda: comm.all_reduce(a.ctypes.data, last, count=5, dtype="float32"),
        "all_gather: recvbuf": lambda: comm.all_gather(a.ctypes.data, last, count=4, dtype="float32"),
        "broadcast": lambda: comm.broadcast(last, root=1, count=5, dtype="float32"),
        "gather": lambda: comm.gather(last, a.ctypes.data, 1 - comm.rank, count=5, dtype="float32"),
        "scatter": lambda: comm.scatter(None, last, 1 - comm.rank, count=5, dtype="float32"),
        "send": lambda: comm.send(last, 1 - comm.rank, count=5, dtype="float32"),
        "recv": lambda: comm.recv(last, 1 - comm.rank, count=5, dtype="float32"),
        "all_reduce_rms_norm: x": lambda: comm.all_reduce_rms_norm(
            last, None, None, 0.0, a.ctypes.data, shape=(1, 5), dtype="float32"
        ),
        "add_rms_norm: out": lambda: comm.add_rms_norm(
            a.ctypes.data, None, None, 0.0, last, shape=(1, 5), dtype="float32"
        ),
    }.items():
        with pytest.raises(hipcomm.InvalidArgument, match=f"{operation}.*past the end of memory"):
            call()
    comm.barrier()


def test_refusals(ranks):
    ranks.world(WORLD).run(refusals)


def oddities(comm, rng):
    """What is taken, although it is strange."""
    one = ctypes.c_float(comm.rank + 1)
    comm.all_reduce(one)
    assert one.value == 3
    two = (ctypes.c_double * 3 * 2)()
    comm.all_reduce(two)
    offset = np.arange(8, dtype=np.float32) + comm.rank
    memory = offset.view(np.uint8)
    inside = Speaks(
        offset,
        __array_interface__={"shape": (3,), "typestr": "<f4", "data": memory.data, "offset": 8, "version": 3},
    )
    comm.all_reduce(inside)
    assert offset.tolist() == [0 + comm.rank, 1 + comm.rank, 5, 7, 9, *(i + comm.rank for i in (5, 6, 7))]
    named = np.full(4, comm.rank + 1, ml_dtypes.bfloat16)  # "<V2" to the interface; the object says more
    comm.all_reduce(Speaks(named, dtype=named.dtype, __array_interface__=named.__array_interface__))
    assert (named == 3).all()
    held = bytearray(8)
    comm.all_reduce(held)
    held.extend(b"not held any more")
    rows = np.zeros((3, 8), np.float32)
    x = np.full((3, 8), comm.rank + 1, np.float32)
    for wrap in (memoryview, OldDlpack, lambda v: interface(v, "__cuda_array_interface__")):
        rows[:] = 77
        comm.all_reduce_rms_norm(wrap(x), None, wrap(np.ones(8, np.float32)), 0.0, wrap(rows))
        assert (rows == 1).all()
    rows[:] = 77
    address = ctypes.c_void_p(x.ctypes.data)
    where = {"shape": (3, 8), "dtype": "float32"}
    comm.add_rms_norm(address, None, None, 0.0, ctypes.c_void_p(rows.ctypes.data), **where)
    assert (rows == 1).all()
    counts = [1, 2]
    whole = np.zeros(3, np.float32)
    own = np.full(counts[comm.rank], comm.rank, np.float32)
    pointer = ctypes.c_void_p(own.ctypes.data)
    comm.all_gather_v(pointer, ctypes.c_void_p(whole.ctypes.data), counts, dtype="float32")
    assert whole.tolist() == [0, 1, 1]


def test_oddities(ranks):
    ranks.world(WORLD).run(oddities)


# ---- what a SymmetricArray gives out ---------------------------------------------------------------------


def symmetric_memory_for_others(comm, rng):
    for name in oracle.DTYPES:
        dtype = oracle.dtype_of(name)
        symmetric = comm.empty((2, 3), dtype)
        symmetric.from_host(np.full((2, 3), comm.rank + 1).astype(dtype))
        for wrap in (OldDlpack, NewDlpack):  # our own reader
            comm.all_reduce(wrap(symmetric), op="max")
        assert (symmetric.numpy() == dtype.type(WORLD)).all()
        view = symmetric.memoryview()
        assert not view.readonly and view.nbytes == symmetric.nbytes
        if dtype.kind != "V":
            assert view.shape == (2, 3)
            shared = np.from_dlpack(symmetric)
            assert shared.flags.writeable and shared.ctypes.data == symmetric.data_ptr
            view.cast("B")[: dtype.itemsize] = bytes(dtype.itemsize)
            assert shared[0, 0] == 0
        if sys.version_info >= (3, 12):
            assert memoryview(symmetric).nbytes == symmetric.nbytes
        with pytest.raises(BufferError):
            symmetric.__dlpack__(copy=True)
        with pytest.raises(BufferError):
            symmetric.__dlpack__(dl_device=(2, 0))
        assert "dltensor_versioned" in repr(symmetric.__dlpack__(max_version=(1, 0)))
        assert "dltensor_versioned" not in repr(symmetric.__dlpack__())
    from hipcomm.buffers import dlpack_export

    del symmetric, view, shared
    assert not dlpack_export._lent  # nothing is kept once its consumer is done


def test_symmetric_memory_for_others(own_ranks):
    own_ranks.world(WORLD).run(symmetric_memory_for_others)
