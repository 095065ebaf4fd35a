"""comm.handle: the C library's, for ctypes, cffi, an extension in C++ and Numba; and after its end."""

from __future__ import annotations

import ctypes
import importlib.util
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from harness import worlds
from regions import arena

import hipcomm

WORLD = 2
FLOAT32, SUM = 7, 0
INVALID_ARGUMENT = 1
COUNT = 10

pytestmark = pytest.mark.skipif(not worlds(WORLD), reason=f"needs {WORLD} devices")


def through(comm, all_reduce):
    """Ten calls of all_reduce(send, recv, count, dtype, op, handle, stream), among calls of Python's."""
    memory = arena()
    send, recv = memory.region(4 * COUNT), memory.region(4 * COUNT)
    for call in range(10):
        send.put((np.arange(COUNT) + call * 10 + comm.rank).astype(np.float32))
        recv.put(np.full(COUNT, 77, np.float32))
        code = all_reduce(send.address, recv.address, COUNT, FLOAT32, SUM, comm.handle, 0)
        assert code == 0
        comm.synchronize()
        expected = sum(np.arange(COUNT) + call * 10 + rank for rank in range(comm.world_size))
        assert (recv.get(np.dtype(np.float32)) == expected).all()
        comm.barrier()


def library():
    """libhipcomm.so as ctypes sees it; it is loaded once in a process."""
    loaded = ctypes.CDLL(hipcomm.get_library())
    pointer = ctypes.c_void_p
    function = loaded.hipcommAllReduce
    function.argtypes = [pointer, pointer, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, pointer, pointer]
    function.restype = ctypes.c_int
    loaded.hipcommGetLastError.argtypes = [pointer]
    loaded.hipcommGetLastError.restype = ctypes.c_char_p
    return loaded


def with_ctypes(comm, rng):
    assert type(comm.handle) is int and comm.handle == comm.handle != 0
    through(comm, library().hipcommAllReduce)
    part = comm.split(0)
    assert part.handle != comm.handle
    through(part, library().hipcommAllReduce)
    part.close()


@pytest.mark.parametrize("world", worlds(1, 2, 3))
def test_ctypes(ranks, world):
    ranks.world(world).run(with_ctypes)


def with_cffi(comm, rng):
    import cffi

    ffi = cffi.FFI()
    ffi.cdef("int hipcommAllReduce(void *, void *, size_t, int, int, void *, void *);")
    loaded = ffi.dlopen(hipcomm.get_library())

    def all_reduce(send, recv, count, dtype, op, handle, stream):
        pointers = [ffi.cast("void *", value) for value in (send, recv, handle, stream)]
        return loaded.hipcommAllReduce(*pointers[:2], count, dtype, op, *pointers[2:])

    through(comm, all_reduce)


def test_cffi(ranks):
    ranks.world(WORLD).run(with_cffi)


EXTENSION = """
#include <hipcomm.h>
#include <pybind11/pybind11.h>

static int all_reduce(uintptr_t send, uintptr_t recv, size_t count, int dtype, int op, uintptr_t comm,
                      uintptr_t stream) {
    return hipcommAllReduce((const void*)send, (void*)recv, count, (hipcommDataType_t)dtype,
                            (hipcommRedOp_t)op, (hipcommComm_t)comm, (hipcommStream_t)stream);
}
PYBIND11_MODULE(hipcomm_by_pybind11, m) { m.def("all_reduce", &all_reduce); }
"""


@pytest.fixture(scope="module")
def extension(tmp_path_factory):
    """The folder of a module that was built with pybind11."""
    pybind11 = pytest.importorskip("pybind11")
    folder = tmp_path_factory.mktemp("pybind11")
    (folder / "module.cpp").write_text(EXTENSION)
    include = [pybind11.get_include(), sysconfig.get_paths()["include"], hipcomm.get_include()]
    if not (Path(include[1]) / "Python.h").exists():
        pytest.skip("Python's headers are not installed")
    library = Path(hipcomm.get_library())
    command = ["g++", "-std=c++17", "-O0", "-shared", "-fPIC", *(f"-I{each}" for each in include)]
    target = folder / f"hipcomm_by_pybind11{sysconfig.get_config_var('EXT_SUFFIX')}"
    # by its path: it is the very library that Python has loaded
    subprocess.run(
        [
            *command,
            str(folder / "module.cpp"),
            "-o",
            str(target),
            str(library),
            f"-Wl,-rpath,{library.parent}",
        ],
        check=True,
        timeout=200,
    )
    return str(folder)


def with_extension(comm, rng, folder):
    sys.path.insert(0, folder)
    try:
        import hipcomm_by_pybind11
    finally:
        sys.path.remove(folder)
    through(comm, hipcomm_by_pybind11.all_reduce)


def test_pybind11(ranks, extension):
    ranks.world(WORLD).run(with_extension, extension)


def with_numba(comm, rng):
    import numba

    function = library().hipcommAllReduce

    @numba.njit
    def all_reduce(send, recv, count, dtype, op, handle, stream):
        return function(send, recv, count, dtype, op, handle, stream)

    through(comm, all_reduce)


def test_numba(ranks):
    if importlib.util.find_spec("numba") is None:
        pytest.skip("numba is not installed")
    ranks.world(WORLD).run(with_numba)


# ---- after its end ---------------------------------------------------------------------------------------


def refused_everywhere(lib, handle):
    """Every function that takes a communicator."""
    from hipcomm.core import ffi
    from hipcomm.core import lib as core

    comm = ffi.cast("hipcommComm_t", handle)
    norm, plan, null = ffi.new("hipcommNorm *"), ffi.new("hipcommPlan *"), ffi.NULL
    number, sizes = ffi.new("int *"), ffi.new("size_t[16]")
    memory = ffi.new("char[64]")
    calls = (
        lambda: core.hipcommAllReduce(memory, memory, 1, 0, 0, comm, null),
        lambda: core.hipcommAllGather(memory, memory, 1, 0, comm, null),
        lambda: core.hipcommAllGatherRows(memory, memory, 2, 1, 0, comm, null),
        lambda: core.hipcommAllGatherv(memory, memory, sizes, null, 0, comm, null),
        lambda: core.hipcommAllToAll(memory, memory, 1, 0, comm, null),
        lambda: core.hipcommAllToAllv(memory, sizes, null, memory, sizes, null, 0, comm, null),
        lambda: core.hipcommSend(memory, 1, 0, 1, comm, null),
        lambda: core.hipcommBarrier(comm, null),
        lambda: core.hipcommAllReduceRmsNorm(norm, comm, null),
        lambda: core.hipcommAddLayerNorm(norm, comm, null),
        lambda: core.hipcommStreamSynchronize(comm, null),
        lambda: core.hipcommCommPlan(comm, 0, 1, 0, 0, 0, plan),
        lambda: core.hipcommCommPlanNorm(comm, 14, norm, plan),
        lambda: core.hipcommCommAbort(comm, 4, 0, b"reason"),
        lambda: core.hipcommCommPeerLeft(comm, 0),
        lambda: core.hipcommCommSetInterrupt(comm, null, null),
        lambda: core.hipcommCommSetLog(comm, null, null),
        lambda: core.hipcommCommSetMemoryOrder(comm, 0),
        lambda: core.hipcommCommAddRegion(comm, ffi.new("void *[16]"), 1, number),
        lambda: core.hipcommCommRemoveRegion(comm, 0),
        lambda: core.hipcommCommGetAsyncError(comm),
        lambda: core.hipcommCommDestroy(comm),
    )
    for position, call in enumerate(calls):
        assert call() == INVALID_ARGUMENT, position
    assert core.hipcommCommFailedPeer(comm) == -1
    return ffi.string(core.hipcommGetLastError(comm)).decode()


def after_close(comm, rng):
    lib, part = library(), comm.split(0)
    stale = [part.handle]
    part.close()
    for _ in range(5):  # communicators that come later do not have the handle of one that has ended
        part = comm.split(0)
        assert part.handle not in stale
        assert "closed" in refused_everywhere(lib, stale[-1])
        through(part, lib.hipcommAllReduce)
        stale.append(part.handle)
        part.close()
    handle = comm.handle
    through(comm, lib.hipcommAllReduce)  # which none of these has harmed
    comm.close()
    for each in (handle, *stale, 8, 2**64 - 1, 0):
        if each:
            assert "closed" in refused_everywhere(lib, each)
    with pytest.raises(hipcomm.InvalidArgument, match="closed"):
        _ = comm.handle


def test_after_close_it_is_an_error(own_ranks):
    own_ranks.world(WORLD).run(after_close)


def failed(comm, rng):
    handle = comm.handle
    comm.abort("enough")
    code = library().hipcommAllReduce(8, 8, 0, FLOAT32, SUM, handle, 0)
    assert code == 4 and b"enough" in library().hipcommGetLastError(handle)
    comm.close()
    assert library().hipcommAllReduce(8, 8, 0, FLOAT32, SUM, handle, 0) in (INVALID_ARGUMENT, 4)


def test_of_a_failed_communicator(own_ranks):
    own_ranks.world(WORLD).run(failed)


def many(comm, rng):
    """More than a block of the registry holds."""
    parts = [comm.split(0) for _ in range(20)]
    assert len({part.handle for part in parts}) == 20
    through(parts[-1], library().hipcommAllReduce)
    for part in parts:
        part.close()
    through(comm, library().hipcommAllReduce)


@pytest.mark.host_arrays
def test_many_communicators(own_ranks):
    own_ranks.world(1).run(many)
